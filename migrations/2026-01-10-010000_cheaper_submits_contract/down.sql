CREATE INDEX tasks_ready ON tasks (queue, priority, (delivery = 0), id) WHERE status = 'PENDING' AND due_at IS NULL;

-- For the program before. The present one writes these rows too, before the trigger does.
CREATE FUNCTION note_metadata() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_metadata (pair, task_id)
    SELECT pair, n.id FROM new_tasks n, metadata_pairs(n.metadata) AS pair WHERE n.metadata::text <> '{}'
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER note_metadata AFTER INSERT ON tasks REFERENCING NEW TABLE AS new_tasks
    FOR EACH STATEMENT EXECUTE FUNCTION note_metadata();
