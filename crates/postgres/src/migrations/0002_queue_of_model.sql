-- Whether what it commits may be lost with the last moments before a power cut; all living nodes agree on it.
ALTER TABLE soloist.node ADD COLUMN relaxed boolean NOT NULL DEFAULT false;

-- The queue of each model. By an expression, which no other index has: so that nobody who wants the head of one model's
-- queue in this order is made to walk the whole queue for it.
CREATE INDEX task_queued_of_model ON soloist.task (app, model, (place + 0)) WHERE place IS NOT NULL;
