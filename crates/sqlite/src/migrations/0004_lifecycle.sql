-- Retries that wait, schedules, limits over all nodes, one more run, and how long what has ended is kept.

-- Until then what is queued waits for its time, and not for a node; it keeps its place.
ALTER TABLE task ADD COLUMN due_at           INTEGER;
ALTER TABLE task ADD COLUMN deadline_seconds INTEGER;
-- Attempts of the newest run that ended without a fault of their own.
ALTER TABLE task ADD COLUMN node_losses      INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN store_losses     INTEGER NOT NULL DEFAULT 0;
-- One more run begins when the newest one has ended: 1 as well, 2 instead of it.
ALTER TABLE task ADD COLUMN next_run         INTEGER NOT NULL DEFAULT 0 CHECK (next_run IN (0, 1, 2));

-- The queue of each model, of what is ready; and what waits for its time.
CREATE INDEX task_ready ON task (app, model, place) WHERE place IS NOT NULL AND due_at IS NULL;
CREATE INDEX task_due ON task (due_at) WHERE due_at IS NOT NULL;
-- How many of a model run.
CREATE INDEX task_held_of_model ON task (app, model) WHERE node IS NOT NULL;
-- After what has ended one more run is to begin.
CREATE INDEX task_owed ON task (number) WHERE next_run > 0 AND status IN ('completed', 'failed', 'cancelled');
-- What has ended, oldest first.
CREATE INDEX task_ended ON task (app, model, status, (coalesce(completed_at, failed_at, cancelled_at)))
 WHERE status IN ('completed', 'failed', 'cancelled');

-- What a model says of its runs.
ALTER TABLE node_model ADD COLUMN max_retries      INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node_model ADD COLUMN timeout_seconds  INTEGER;
ALTER TABLE node_model ADD COLUMN deadline_seconds INTEGER;
