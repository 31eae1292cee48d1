-- Inputs, results and checkpoints above 2 kB are compressed with LZ4 from now on, which costs a fraction of what pglz
-- does. What is stored already stays as it is, and both are read. A PostgreSQL that was built without LZ4, or one before
-- 14, which has no choice, goes on with pglz. EXECUTE: version 13 could not even read the statement.
DO $$
BEGIN
    EXECUTE 'ALTER TABLE tasks ALTER COLUMN input SET COMPRESSION lz4, ALTER COLUMN result SET COMPRESSION lz4,
                               ALTER COLUMN checkpoint SET COMPRESSION lz4';
EXCEPTION WHEN feature_not_supported OR syntax_error THEN
    RAISE NOTICE 'this PostgreSQL has no LZ4: %', SQLERRM;
END
$$;
