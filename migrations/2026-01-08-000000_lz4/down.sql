DO $$
BEGIN
    EXECUTE 'ALTER TABLE tasks ALTER COLUMN input SET COMPRESSION default, ALTER COLUMN result SET COMPRESSION default,
                               ALTER COLUMN checkpoint SET COMPRESSION default';
EXCEPTION WHEN syntax_error THEN
    NULL;
END
$$;
