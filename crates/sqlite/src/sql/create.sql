-- create: put a new task on record, pending, or with its first run; where its key was deleted it goes on from there.
-- called by  Store::create, Store::create_claimed, before input.sql and revive.sql in the same transaction
-- guard      no task of that key is there; its run is begun where :node is named, and alive
-- returns    the task's number, and what only this statement knows of it; no row means that the key is taken
-- atomic     one statement; the run waits before its time, and where it is not to be here
INSERT INTO task (app, model, id, owner, max_retries, timeout_seconds, deadline_seconds, run_at, created_at, updated_at,
                  last_seq, run_start_seq, run, taken_back, attempt, epoch, status, node, started_at, place, due_at,
                  trace_parent, trace_state)
SELECT :app, :model, :id, :owner, :max_retries, :timeout_seconds, :deadline_seconds, :run_at, :at, :at,
       last_seq, last_seq, iif(claimed, run + taken_back + 1, run), iif(claimed, 0, taken_back), claimed, epoch + here,
       iif(here, 'running', iif(claimed, 'queued', 'pending')), iif(here, :node, NULL), iif(here, :at, NULL),
       iif(claimed AND NOT here, (SELECT coalesce(max(place), 0) + 1 FROM task WHERE place IS NOT NULL), NULL),
       iif(claimed AND :run_at > :at, :run_at, NULL), iif(claimed, :trace_parent, NULL), iif(claimed, :trace_state, NULL)
  FROM (SELECT claimed, claimed AND :here AND coalesce(:run_at <= :at, 1) AS here, coalesce(run, 0) AS run,
               coalesce(epoch, 0) AS epoch, coalesce(last_seq, 0) AS last_seq, coalesce(taken_back, 0) AS taken_back
          FROM (SELECT EXISTS (SELECT 1 FROM node WHERE node.id = :node AND NOT node.dead) AS claimed)
          LEFT JOIN tombstone ON app = :app AND model = :model AND id = :id)
 WHERE true
    ON CONFLICT (app, model, id) DO NOTHING
RETURNING number, status, run, epoch, last_seq, taken_back
