-- use: keep what the first use of an idempotency key is told.
-- called by  Store::claim, Store::create, after what it guards in the same transaction
-- guard      used.sql found none under the same write lock
-- returns    nothing
-- atomic     one statement
INSERT INTO idempotency (subject, call, target, key, digest, task, name, started, run, used_at)
VALUES (:subject, :call, :target, :key, :digest, :task, :name, :started, :run, :at)
