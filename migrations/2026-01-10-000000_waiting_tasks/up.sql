-- With `delivery` this index tells everything that a look at what waits asks, and the table need not be read. It replaces
-- tasks_ready, which the next migration drops: that one needs a lock that nobody passes, and so must not build anything.
-- Nothing is written to the table while this one is built. There has been no release yet, and no table is large; after
-- the first, an index is built CONCURRENTLY.
CREATE INDEX tasks_waiting ON tasks (queue, priority, (delivery = 0), id) INCLUDE (delivery)
    WHERE status = 'PENDING' AND due_at IS NULL;
