-- When what waits in the queue may be taken from it; none where it may be taken at once.
ALTER TABLE soloist.task ADD COLUMN due_at bigint CHECK (due_at IS NULL OR status = 'queued');
ALTER TABLE soloist.task ADD COLUMN deadline_seconds integer;
-- Attempts of the newest run whose node died, and for which the store was away for too long.
ALTER TABLE soloist.task ADD COLUMN node_losses integer NOT NULL DEFAULT 0;
ALTER TABLE soloist.task ADD COLUMN store_losses integer NOT NULL DEFAULT 0;
-- Whether one more run begins when the newest one has ended: 0 none, 1 rerun, 2 replace.
ALTER TABLE soloist.task ADD COLUMN next_run smallint NOT NULL DEFAULT 0;

-- What a model says of its runs.
ALTER TABLE soloist.node_model ADD COLUMN max_retries integer NOT NULL DEFAULT 0;
ALTER TABLE soloist.node_model ADD COLUMN timeout_seconds integer;
ALTER TABLE soloist.node_model ADD COLUMN deadline_seconds integer;

-- A model whose runs are bounded over all nodes has as many slots. Who claims a run takes a slot with it, by the epoch of
-- the claim, and nobody gives one back: a slot is taken only while that very epoch of that task is held. So it is free
-- however the run ends, and no number can be wrong because somebody died.
CREATE TABLE soloist.model_slot (
    app   text    NOT NULL,
    model text    NOT NULL,
    slot  integer NOT NULL,
    task  bigint,
    epoch bigint,
    PRIMARY KEY (app, model, slot)
) WITH (fillfactor = 50);

-- The queue holds what may be taken now; what waits for its time costs nobody who looks for work anything.
DROP INDEX soloist.task_queued;
DROP INDEX soloist.task_queued_of_model;
CREATE INDEX task_queued ON soloist.task (place) WHERE place IS NOT NULL AND due_at IS NULL;
-- By an expression, which no other index has: so that nobody who wants the head of one model's queue in this order is made
-- to walk the whole queue for it.
CREATE INDEX task_queued_of_model ON soloist.task (app, model, (place + 0)) WHERE place IS NOT NULL AND due_at IS NULL;
CREATE INDEX task_due ON soloist.task (due_at) WHERE due_at IS NOT NULL;
-- Of a model whose runs are bounded also those count that were claimed when they were not.
CREATE INDEX task_held_of_model ON soloist.task (app, model) WHERE node IS NOT NULL;
-- After whose end one more run is to begin.
CREATE INDEX task_owed ON soloist.task (number)
 WHERE next_run > 0 AND status IN ('completed', 'failed', 'cancelled');
-- By when they ended: the oldest go first.
CREATE INDEX task_ended ON soloist.task (app, model, status, (coalesce(completed_at, failed_at, cancelled_at)))
 WHERE status IN ('completed', 'failed', 'cancelled');
