-- outlive: remove idempotency keys whose time is over and whose task is gone.
-- called by  Store::tidy
-- guard      used before :before, and the task has no row
-- returns    nothing
-- atomic     one statement, of a bounded number of rows
DELETE FROM idempotency
 WHERE (subject, call, target, key) IN
       (SELECT subject, call, target, key FROM idempotency
         WHERE used_at < :before AND NOT EXISTS (SELECT 1 FROM task WHERE task.number = idempotency.task)
         LIMIT :limit)
