DROP TRIGGER forget_all_metadata ON tasks;
DROP TRIGGER forget_metadata ON tasks;
DROP TRIGGER note_metadata ON tasks;
DROP FUNCTION forget_metadata, note_metadata, metadata_pairs, metadata_pair;
DROP TABLE task_metadata;
