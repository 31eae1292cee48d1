DROP INDEX tasks_scheduled;
DELETE FROM leases WHERE name = 'sampler';
DROP TABLE queue_samples;
