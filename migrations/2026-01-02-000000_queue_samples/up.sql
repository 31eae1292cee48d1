-- How each queue fared, minute by minute, for the last hour. Workers add what they started and ended; one of them, the
-- holder of the lease 'sampler', notes what waits.
CREATE TABLE queue_samples (
    queue              text COLLATE "C" NOT NULL,
    minute             timestamptz NOT NULL,               -- its beginning
    started            bigint NOT NULL DEFAULT 0,          -- deliveries begun in it
    ended              bigint NOT NULL DEFAULT 0,          -- deliveries whose handler returned in it
    ready              bigint,                             -- what waited when it was looked at; NULL: nobody looked
    running            bigint,
    scheduled          bigint,
    oldest_age_seconds double precision,                   -- how long the first in line had been ready
    PRIMARY KEY (queue, minute)
);
CREATE INDEX queue_samples_age ON queue_samples (minute);

INSERT INTO leases (name) VALUES ('sampler');

-- Counts what waits for a time, queue by queue, without reading its rows. Ready tasks are not in it.
CREATE INDEX tasks_scheduled ON tasks (queue) WHERE status = 'PENDING' AND due_at IS NOT NULL;
