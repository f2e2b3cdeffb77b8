-- create: put a new task on record, pending; where its key was deleted it goes on from there.
-- called by  Store::create, before input.sql and revive.sql in the same transaction
-- guard      no task of that key is there
-- returns    the task's number; no row means that the key is taken
-- atomic     one statement
INSERT INTO task (app, model, id, owner, max_retries, timeout_seconds, deadline_seconds, run_at, created_at, updated_at,
                  run, epoch, last_seq, run_start_seq, taken_back)
SELECT :app, :model, :id, :owner, :max_retries, :timeout_seconds, :deadline_seconds, :run_at, :at, :at,
       coalesce(run, 0), coalesce(epoch, 0), coalesce(last_seq, 0), coalesce(last_seq, 0), coalesce(taken_back, 0)
  FROM (SELECT 1) LEFT JOIN tombstone ON app = :app AND model = :model AND id = :id
 WHERE true
    ON CONFLICT (app, model, id) DO NOTHING
RETURNING number
