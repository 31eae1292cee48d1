-- By which lists find tasks by a member of their metadata, newest first, however many there are: a row per member.
-- Written by triggers, so that a release that knows nothing of it keeps it whole during a rollout.
CREATE TABLE task_metadata (
    pair    bigint NOT NULL,                              -- metadata_pair(key, value); a reader compares the text besides
    task_id uuid NOT NULL,
    PRIMARY KEY (pair, task_id)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

-- A hash, since a value may be longer than an index takes.
CREATE FUNCTION metadata_pair(key text, value text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT hashtextextended(key, hashtextextended(value, 0))
$$;

-- The pairs of a task, each once: whoever wants two members of one hash can find them, and json keeps a key that comes
-- twice. More than 32 members, or 4 kB of them, count as the one pair of two empty texts, where every reader looks too: a
-- batch shares its transaction with others, who wait for its rows.
CREATE FUNCTION metadata_pairs(metadata json) RETURNS SETOF bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT DISTINCT metadata_pair(member.key, member.value)
    FROM json_each_text(
        CASE WHEN octet_length(metadata::text) <= 4096 AND (SELECT count(*) FROM json_object_keys(metadata)) <= 32
             THEN metadata ELSE '{"": ""}' END) AS member
    WHERE member.value IS NOT NULL
$$;

CREATE FUNCTION note_metadata() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_metadata (pair, task_id)
    SELECT pair, n.id FROM new_tasks n, metadata_pairs(n.metadata) AS pair WHERE n.metadata::text <> '{}';
    RETURN NULL;
END
$$;

-- By the index, row for row. The planner takes each task for one of a hundred members: for the five hundred tasks of a
-- purge it would read the whole table instead, keep that plan, and compile it each time.
CREATE FUNCTION forget_metadata() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        BEGIN
            TRUNCATE task_metadata;
        EXCEPTION WHEN object_in_use THEN
            -- The statement names both tables.
            DELETE FROM task_metadata;
        END;
        RETURN NULL;
    END IF;
    DELETE FROM task_metadata m
    USING (SELECT pair, o.id FROM old_tasks o, metadata_pairs(o.metadata) AS pair WHERE o.metadata::text <> '{}') AS gone
    WHERE m.pair = gone.pair AND m.task_id = gone.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER note_metadata AFTER INSERT ON tasks REFERENCING NEW TABLE AS new_tasks
    FOR EACH STATEMENT EXECUTE FUNCTION note_metadata();
CREATE TRIGGER forget_all_metadata AFTER TRUNCATE ON tasks FOR EACH STATEMENT EXECUTE FUNCTION forget_metadata();
CREATE TRIGGER forget_metadata AFTER DELETE ON tasks REFERENCING OLD TABLE AS old_tasks
    FOR EACH STATEMENT EXECUTE FUNCTION forget_metadata();
