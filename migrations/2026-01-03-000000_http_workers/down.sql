DROP TABLE http_workers;
DROP TABLE task_types;
ALTER TABLE tasks DROP COLUMN lease_token, DROP COLUMN lease_ms;
