-- use: keep what the first use of an idempotency key is told.
-- called by  Store::create, first in its transaction, before the task is known, and again once it is
-- guard      the key was not used, or by this transaction, which has left the task open
-- returns    one row; no row means that the key was used (used.sql)
-- atomic     one statement; of two uses of one key at once the second waits here for the first
INSERT INTO soloist.idempotency AS first (subject, call, target, key, digest, task, name, started, run, used_at)
VALUES (:subject, :call, :target, :key, :digest, :task, :name, false, 0, :at)
    ON CONFLICT (subject, call, target, key) DO UPDATE SET task = excluded.task, name = excluded.name
 WHERE first.task = 0 AND excluded.task <> 0
RETURNING 1
