-- Every table of the project. PostgreSQL is the only truth; Redis is a doorbell.
-- Ids are ULIDs kept as uuid: 16 bytes, and they sort by their creation time.

-- Shows a ULID as the API spells it: SELECT ulid(id), status FROM tasks.
CREATE FUNCTION ulid(id uuid) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT string_agg(substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ',
                             substring(('00' || ('x' || replace(id::text, '-', ''))::bit(128)::text)::bit(130)
                                       FROM 5 * i + 1 FOR 5)::bit(5)::int + 1, 1), '' ORDER BY i)
    FROM generate_series(0, 25) AS i
$$;

-- The way back: SELECT * FROM tasks WHERE id = from_ulid('01J…').
CREATE FUNCTION from_ulid(id text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT encode(decode(lpad(string_agg(lpad(to_hex(substring(bits FROM 8 * b + 3 FOR 8)::bit(8)::int), 2, '0'), ''
                                         ORDER BY b), 32, '0'), 'hex'), 'hex')::uuid
    FROM (SELECT string_agg((strpos('0123456789ABCDEFGHJKMNPQRSTVWXYZ', substr(upper(id), i, 1)) - 1)::bit(5)::text, ''
                            ORDER BY i) AS bits
          FROM generate_series(1, 26) AS i) AS spelled,
         generate_series(0, 15) AS b
$$;

CREATE TABLE tasks (
    id                uuid PRIMARY KEY,
    task_type         text NOT NULL,
    status            text COLLATE "C" NOT NULL DEFAULT 'PENDING'
                      CHECK (status IN ('PENDING', 'RUNNING', 'SUCCESS', 'FAILED', 'CANCELLED')),
    queue             text COLLATE "C" NOT NULL DEFAULT 'default',
    priority          smallint NOT NULL DEFAULT 1 CHECK (priority BETWEEN 0 AND 2), -- high, normal, low
    owner             text,                               -- who submitted it; NULL: nobody signed in
    input             json NOT NULL,                      -- json keeps the text as it came
    metadata          json NOT NULL DEFAULT '{}',         -- as it came too: jsonb writes 1e308 with 309 digits
    trace_context     text,                               -- W3C traceparent of the submit

    delivery          integer NOT NULL DEFAULT 0,         -- the fence: +1 at every claim, never lowered
    attempt           integer NOT NULL DEFAULT 1,         -- failures + 1 as of the last claim
    failures          integer NOT NULL DEFAULT 0,         -- attempts that the task itself used up
    max_attempts      integer NOT NULL CHECK (max_attempts >= 1),
    lost              integer NOT NULL DEFAULT 0,         -- deliveries lost with their worker since the last checkpoint
    max_lost          integer NOT NULL DEFAULT 3 CHECK (max_lost >= 0),
    timeout_ms        bigint,                             -- of one attempt; NULL: none
    worker_id         uuid,                               -- who runs it, and after a cancel who has not stopped yet
    lease_until       timestamptz,                        -- set only for HTTP workers, which lease task by task
    undecodable_since timestamptz,

    ready_at          timestamptz NOT NULL DEFAULT clock_timestamp(), -- the earliest moment of a claim
    due_at            timestamptz,                        -- ready_at while its doorbell is still to be rung
    expires_at        timestamptz,                        -- ends FAILED expired when nobody started it by then

    progress_current  bigint,
    progress_total    bigint,
    progress_message  text,
    progress_at       timestamptz,
    checkpoint        json,
    checkpoint_at     timestamptz,
    result            json,
    error             json,
    last_error        json,

    seq               integer NOT NULL DEFAULT 0,         -- the last number given out in task_events
    version           integer NOT NULL DEFAULT 1,         -- +1 with every visible change; the ETag
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    scheduled_at      timestamptz,                        -- what the submitter asked for by delay or run_at
    started_at        timestamptz,
    completed_at      timestamptz,

    -- A final status has exactly one of result and error.
    CHECK ((status = 'SUCCESS') = (result IS NOT NULL)),
    CHECK ((status IN ('FAILED', 'CANCELLED')) = (error IS NOT NULL)),
    CHECK ((status IN ('SUCCESS', 'FAILED', 'CANCELLED')) = (completed_at IS NOT NULL))
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02,
        autovacuum_vacuum_insert_scale_factor = 0.1);

-- Partial, for the hot states only: a finished task is in none of them.
CREATE INDEX tasks_ready    ON tasks (queue, priority, (delivery = 0), id) WHERE status = 'PENDING' AND due_at IS NULL;
CREATE INDEX tasks_due      ON tasks (due_at) WHERE status = 'PENDING' AND due_at IS NOT NULL;
CREATE INDEX tasks_expiring ON tasks (expires_at) WHERE status = 'PENDING' AND expires_at IS NOT NULL;
CREATE INDEX tasks_running  ON tasks (worker_id, id) WHERE status = 'RUNNING';
CREATE INDEX tasks_stopping ON tasks (worker_id) WHERE status = 'CANCELLED' AND worker_id IS NOT NULL;
-- What people look for among the finished: the few that did not succeed, and their own.
CREATE INDEX tasks_failed   ON tasks (status, id) WHERE status IN ('FAILED', 'CANCELLED');
CREATE INDEX tasks_owner    ON tasks (owner, id) WHERE owner IS NOT NULL;

-- Status changes and log lines. seq comes from the task's row in the statement that inserts here,
-- so a reader of seq > n misses nothing. No foreign key: it would be no fence, and it would cost.
CREATE TABLE task_events (
    task_id   uuid NOT NULL,
    seq       integer NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivery  integer NOT NULL,
    attempt   integer NOT NULL,
    status    text COLLATE "C",                           -- set: a change of status. NULL: a log line
    level     text COLLATE "C",                           -- of a log line: DEBUG, INFO, WARNING, ERROR
    message   text,                                       -- the line, or why the status changed
    worker_id uuid,
    error     json,                                       -- of a change of status: the error that caused it
    PRIMARY KEY (task_id, seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

-- One row per worker incarnation: a fresh id at every start.
CREATE TABLE workers (
    id          uuid PRIMARY KEY,
    host        text NOT NULL,
    pid         integer NOT NULL,
    version     text NOT NULL,
    queues      jsonb NOT NULL,                           -- {"default": 32}: queue -> slots
    task_types  text[] NOT NULL,
    state       text COLLATE "C" NOT NULL DEFAULT 'alive' CHECK (state IN ('alive', 'draining', 'dead')),
    lease_ms    bigint NOT NULL,
    lease_until timestamptz NOT NULL,
    renewed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at    timestamptz,                              -- when it left or was declared dead
    unstopped   integer NOT NULL DEFAULT 0                -- attempts that ignore a request to stop
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500);
CREATE INDEX workers_lease ON workers (lease_until) WHERE state <> 'dead';

-- Only queues that an operator has touched have a row.
CREATE TABLE queues (
    name       text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z0-9_.-]{1,64}$'),
    paused     boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE idempotency_keys (
    scope       text COLLATE "C" NOT NULL,                -- the caller
    key         text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,                           -- SHA-256 over the body's tokens, keys sorted
    task_ids    uuid[] NOT NULL,                          -- one, or a batch in its order
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

-- Work that one process does for all: won for a while by compare-and-set on the database's clock.
CREATE TABLE leases (
    name        text COLLATE "C" PRIMARY KEY,
    holder      uuid,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    value       text                                      -- of 'doorbells': the epoch that Redis must show
);
INSERT INTO leases (name) VALUES ('doorbells'), ('janitor');

-- What retention deleted, so that its owner is told 410 and not 404.
CREATE TABLE tombstones (
    task_id   uuid PRIMARY KEY,
    owner     text,
    purged_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX tombstones_age ON tombstones (purged_at);
