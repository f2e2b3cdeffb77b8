-- use: keep what the first use of an idempotency key is told, where its task was there already.
-- called by  Store::create
-- guard      the key was not used, and the task is there still; what it was given never changes under its number
-- returns    one row; no row means that the key was used (used.sql), or that the task is gone
-- atomic     one statement; of two uses of one key at once the second waits here for the first
INSERT INTO soloist.idempotency (subject, call, target, key, digest, task, name, started, run, used_at)
SELECT :subject, :call, :target, :key, :digest, number, :target, false, 0, :at
  FROM soloist.task
 WHERE number = :task AND status <> 'deleted'
    ON CONFLICT (subject, call, target, key) DO NOTHING
RETURNING 1
