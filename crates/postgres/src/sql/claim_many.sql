-- claim_many: the same as claim.sql for many tasks, of models whose runs are not bounded over all nodes.
-- called by  Store::claim, where others claim at the same moment
-- guard      of each as in claim.sql: the task is pending, or finished under the caller's policy, its last run is the one that
--            the look before has seen, one more is owed or is not as in claim.sql, and the node is alive. It is queued in any case before its time
-- returns    the claimed rows, each with its place among those asked for; no row means that the claim lost, or that somebody
--            has the row locked: then it is claimed alone, after another look
-- atomic     one statement: rows that are locked are passed by, the others are locked in the order of their numbers, and the
--            guard stands on the row that is updated; one that loses makes no other lose
WITH asked AS (
    SELECT *
      FROM unnest(:apps, :models, :ids, :nodes, :claim_ids, :runs, :oweds, :restarts, :heres, :ats, :trace_parents, :trace_states)
           WITH ORDINALITY
           AS asked (app, model, id, node, claim_id, run, owed, restart, here, at, trace_parent, trace_state, nth)
), free AS (
    SELECT task.number, asked.nth, asked.here AND (task.run_at IS NULL OR task.run_at <= asked.at) AS is_here
      FROM asked
      JOIN soloist.task USING (app, model, id)
     WHERE (task.status || '' = 'pending' OR (asked.restart AND task.status IN ('completed', 'failed', 'cancelled')))
       AND task.run = asked.run AND (task.next_run > 0) = asked.owed
       AND EXISTS (SELECT 1 FROM soloist.node WHERE node.id = asked.node AND NOT node.dead)
     ORDER BY task.number
       FOR NO KEY UPDATE OF task SKIP LOCKED
), claimed AS (
    UPDATE soloist.task
       SET status = CASE WHEN is_here THEN 'running' ELSE 'queued' END, run = task.run + task.taken_back + 1,
           taken_back = 0, attempt = 1,
           epoch = CASE WHEN is_here THEN task.epoch + 1 ELSE task.epoch END, claim_id = asked.claim_id,
           node = CASE WHEN is_here THEN asked.node END, started_at = CASE WHEN is_here THEN asked.at END,
           updated_at = asked.at,
           place = CASE WHEN NOT is_here THEN nextval('soloist.queue_place') END,
           due_at = CASE WHEN task.run_at > asked.at THEN task.run_at END,
           trace_parent = asked.trace_parent, trace_state = asked.trace_state,
           run_start_seq = task.last_seq, retry_count = 0, node_losses = 0, store_losses = 0, next_run = 0,
           completed_at = NULL, failed_at = NULL, cancelled_at = NULL, cancellation_reason = NULL,
           error_type = NULL, error_message = NULL, error_traceback = NULL, final_value = NULL
      FROM free
      JOIN asked USING (nth)
     WHERE task.number = free.number
       AND (task.status = 'pending' OR (asked.restart AND task.status IN ('completed', 'failed', 'cancelled')))
       AND task.run = asked.run AND (task.next_run > 0) = asked.owed
    RETURNING asked.nth AS asked, task.number, task.status, task.run, task.attempt, task.epoch, task.node,
              task.started_at, task.last_seq, task.cancellation_reason, task.retry_count, task.max_retries,
              task.timeout_seconds, task.deadline_seconds, task.node_losses, task.store_losses, task.next_run,
              task.taken_back, task.trace_parent, task.trace_state
), silenced AS (
    DELETE FROM soloist.signal USING claimed WHERE signal.task = claimed.number AND signal.run < claimed.run
)
SELECT claimed.*, (SELECT json FROM soloist.input WHERE input.task = claimed.number) AS input
  FROM claimed
