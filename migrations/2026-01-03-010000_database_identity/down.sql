DELETE FROM leases WHERE name = 'database';
