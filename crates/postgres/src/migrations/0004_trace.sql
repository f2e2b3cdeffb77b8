-- The trace that the start of the newest run was part of, as its caller named it. A program that does not know it leaves it
-- there when it starts the next run.
ALTER TABLE soloist.task ADD COLUMN trace_parent text;
ALTER TABLE soloist.task ADD COLUMN trace_state text;
