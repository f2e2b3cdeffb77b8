-- outlive: remove idempotency keys whose time is over and whose task is gone.
-- called by  Store::tidy
-- guard      used before :before, and the task is not there
-- returns    a row for each
-- atomic     one statement, of a bounded number of rows; a task that is gone never comes back under its number
DELETE FROM soloist.idempotency
 WHERE (subject, call, target, key) IN
       (SELECT subject, call, target, key
          FROM soloist.idempotency
         WHERE used_at < :before
           AND NOT EXISTS (SELECT 1 FROM soloist.task WHERE task.number = idempotency.task AND status <> 'deleted')
         LIMIT :limit
           FOR UPDATE SKIP LOCKED)
RETURNING 1
