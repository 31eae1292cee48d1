-- The tasks that were there before the triggers. A migration of its own: the one before holds a lock on the table until
-- it is committed, and this one, which takes a minute for ten million tasks, holds none.
INSERT INTO task_metadata (pair, task_id)
SELECT pair, t.id FROM tasks t, metadata_pairs(t.metadata) AS pair WHERE t.metadata::text <> '{}'
ON CONFLICT DO NOTHING;
