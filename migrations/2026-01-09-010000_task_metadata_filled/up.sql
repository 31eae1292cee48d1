-- The tasks that were there before the triggers. A migration of its own: the one before holds a lock on the table until
-- it is committed, and this one, which takes a minute or two for ten million tasks, holds none.
INSERT INTO task_metadata (pair, task_id)
SELECT pair, t.id FROM tasks t, metadata_pairs(t.metadata) AS pair WHERE t.metadata::text <> '{}'
ON CONFLICT DO NOTHING;

-- What was deleted meanwhile: its trigger did not see these rows yet. A task that goes in the moment before the commit
-- leaves its rows behind; no list shows them.
DELETE FROM task_metadata m WHERE NOT EXISTS (SELECT FROM tasks t WHERE t.id = m.task_id);
