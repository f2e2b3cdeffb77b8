-- outlive: remove an idempotency key whose time is over and whose task is gone.
-- called by  Store::tidy, for what outlived.sql has found
-- guard      used before :before, and the task has no row; numbers of tasks are never used again
-- returns    nothing
-- atomic     one statement
DELETE FROM idempotency
 WHERE subject = :subject AND call = :call AND target = :target AND key = :key
   AND used_at < :before AND NOT EXISTS (SELECT 1 FROM task WHERE task.number = idempotency.task)
