-- cleared: forget a deleted task that has no events left, and a signal that its delete has not met.
-- called by  Store::tidy, after clear.sql
-- guard      it has none; nobody adds any to a task that is deleted
-- returns    nothing
-- atomic     one statement
WITH forgotten AS (
    DELETE FROM soloist.deleted
     WHERE task IN (SELECT task
                      FROM soloist.deleted AS empty
                     WHERE NOT EXISTS (SELECT 1 FROM soloist.event_batch WHERE event_batch.task = empty.task)
                     ORDER BY task
                     LIMIT :limit
                       FOR UPDATE SKIP LOCKED)
    RETURNING task
)
DELETE FROM soloist.signal USING forgotten WHERE signal.task = forgotten.task
