DROP TABLE tombstones, leases, idempotency_keys, queues, workers, task_events, tasks;
DROP FUNCTION from_ulid(text);
DROP FUNCTION ulid(uuid);
