-- A list of what belongs to somebody, newest first.
CREATE INDEX task_of_owner ON task (owner, number) WHERE owner IS NOT NULL;
