DELETE FROM task_metadata;
