-- Who this database is. Redis shows it under v1:database, so that two databases cannot ring in one Redis and each take
-- the other's doorbells for lost ones.
INSERT INTO leases (name, value) VALUES ('database', gen_random_uuid()::text);
