-- Workers that speak HTTP lease task by task, each delivery with a token of its own.
ALTER TABLE tasks
    ADD COLUMN lease_token bytea,                         -- SHA-256 of the token of the present or last such delivery
    ADD COLUMN lease_ms    bigint;                        -- how long one heartbeat holds

-- Types that no code of this program knows: declared over HTTP, run by HTTP workers.
CREATE TABLE task_types (
    name             text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z0-9_]{1,64}$'),
    description      text NOT NULL,
    input_schema     json NOT NULL,
    queue            text COLLATE "C" NOT NULL,
    max_attempts     integer NOT NULL CHECK (max_attempts >= 1),
    retry_initial_ms bigint NOT NULL,
    retry_longest_ms bigint NOT NULL,
    timeout_ms       bigint,                              -- of one attempt; NULL: none
    updated_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Who asked for work lately, so that a waiting task can be told whether anybody does its kind.
CREATE TABLE http_workers (
    queue     text COLLATE "C" NOT NULL,
    task_type text NOT NULL,
    asked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (queue, task_type)
);
