-- Who may come in. Of a key and of a session only the SHA-256 of its secret is kept.
CREATE TABLE api_keys (
    id         text COLLATE "C" PRIMARY KEY,              -- the key's public part, by which it is found
    name       text COLLATE "C" NOT NULL CHECK (name ~ '^[A-Za-z0-9_.@-]{1,64}$'), -- the owner of its tasks
    role       text COLLATE "C" NOT NULL CHECK (role IN ('user', 'admin', 'monitor', 'worker')),
    hash       bytea NOT NULL CHECK (octet_length(hash) = 32),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,                               -- NULL: never
    revoked_at timestamptz                                -- the row stays: a server that once had keys never opens again
);

-- Browsers that signed in.
CREATE TABLE sessions (
    id         text COLLATE "C" PRIMARY KEY,
    hash       bytea NOT NULL CHECK (octet_length(hash) = 32),
    key_id     text COLLATE "C" REFERENCES api_keys (id) ON DELETE CASCADE, -- NULL: signed in with a token
    owner      text NOT NULL,
    role       text COLLATE "C" NOT NULL CHECK (role IN ('user', 'admin', 'monitor', 'worker')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_owner ON sessions (owner, created_at);
