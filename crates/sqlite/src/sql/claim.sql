-- claim: make this node the holder of the next epoch of a task, or queue a new run of it.
-- called by  Store::claim
-- guard      pending, or finished under the policy; its newest run is :after, or no other is owed; the node is alive
-- returns    the claimed row; no row means that the claim lost
-- atomic     one statement; it queues before its time, and where :max_total run or others wait; losers are told by active.sql
UPDATE task
   SET status = iif(asked.here, 'running', 'queued'), run = run + taken_back + 1, taken_back = 0, attempt = 1, epoch = epoch + asked.here,
       node = iif(asked.here, :node, NULL), started_at = iif(asked.here, :at, NULL), updated_at = :at,
       place = iif(asked.here, NULL, (SELECT coalesce(max(place), 0) + 1 FROM task WHERE place IS NOT NULL)),
       due_at = iif(run_at > :at, run_at, NULL),
       trace_parent = :trace_parent, trace_state = :trace_state,
       run_start_seq = last_seq, retry_count = 0, node_losses = 0, store_losses = 0, next_run = 0,
       completed_at = NULL, failed_at = NULL, cancelled_at = NULL, cancellation_reason = NULL,
       error_type = NULL, error_message = NULL, error_traceback = NULL, final_value = NULL
  FROM (SELECT number AS asked_number,
               :here AND coalesce(run_at <= :at, 1)
               AND (:max_total IS NULL
                    OR (SELECT count(*) FROM task AS held INDEXED BY task_held_of_model
                         WHERE held.app = :app AND held.model = :model AND held.node IS NOT NULL) < :max_total
                        AND NOT EXISTS (SELECT 1 FROM task AS first INDEXED BY task_ready
                                         WHERE first.app = :app AND first.model = :model
                                           AND first.place IS NOT NULL AND first.due_at IS NULL)) AS here
          FROM task
         WHERE app = :app AND model = :model AND id = :id) AS asked
 WHERE number = asked_number
   AND (status = 'pending' OR (:restart AND status IN ('completed', 'failed', 'cancelled')))
   AND iif(:after IS NULL, next_run = 0, run = :after AND next_run > 0)
   AND EXISTS (SELECT 1 FROM node WHERE node.id = :node AND NOT node.dead)
RETURNING status, run, attempt, epoch, last_seq, started_at, retry_count, max_retries, timeout_seconds, deadline_seconds,
          node_losses, store_losses, trace_parent, trace_state,
          (SELECT json FROM input WHERE input.task = task.number) AS input
