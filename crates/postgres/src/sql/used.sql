-- used: what the first use of an idempotency key was told.
-- called by  Store::claim, Store::create, before anything is written, and where the key was used before
-- guard      none; it only reads
-- returns    the first use, and whether its task is still there; no row means that the key is fresh
-- atomic     one statement
SELECT digest, name, started, run,
       EXISTS (SELECT 1 FROM soloist.task WHERE task.number = idempotency.task AND status <> 'deleted') AS there
  FROM soloist.idempotency
 WHERE subject = :subject AND call = :call AND target = :target AND key = :key
