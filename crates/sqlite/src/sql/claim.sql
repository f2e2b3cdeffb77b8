-- claim: make this node the holder of the next epoch of a task, or queue a new run of it.
-- called by  Store::claim
-- guard      the task is pending, or finished under the caller's policy, and the node is alive; an orphan is active
-- returns    the claimed row; no row means that the claim lost
-- atomic     one statement; losers are told by a second one (active.sql)
UPDATE task
   SET status = iif(:here, 'running', 'queued'), run = run + 1, attempt = 1, epoch = epoch + :here,
       node = iif(:here, :node, NULL), started_at = iif(:here, :at, NULL), updated_at = :at,
       place = iif(:here, NULL, (SELECT coalesce(max(place), 0) + 1 FROM task WHERE place IS NOT NULL)),
       run_start_seq = last_seq, retry_count = 0,
       completed_at = NULL, failed_at = NULL, cancelled_at = NULL, cancellation_reason = NULL,
       error_type = NULL, error_message = NULL, error_traceback = NULL, final_value = NULL
 WHERE app = :app AND model = :model AND id = :id
   AND (status = 'pending' OR (:restart AND status IN ('completed', 'failed', 'cancelled')))
   AND EXISTS (SELECT 1 FROM node WHERE node.id = :node AND NOT node.dead)
RETURNING run, attempt, epoch, last_seq, started_at, retry_count, max_retries,
          (SELECT json FROM input WHERE input.task = task.number) AS input
