-- claim: make this node the holder of the next epoch of a task, or queue a new run of it.
-- called by  Store::claim, where it brings no idempotency key
-- guard      the task is pending, or finished under the caller's policy, its last run is the one that the look before has
--            seen (:run), and the node is alive; an orphan is active; so a claim that is sent again because its answer was
--            lost wins no second time, also where somebody else has claimed from the queue, and ended, what it had queued
-- returns    the claimed row; no row means that the claim lost, or that somebody has the row locked
-- atomic     one statement: who finds the row locked passes it by, and the guard stands on the row that is updated;
--            losers are told by a second one, with its own snapshot (active.sql)
WITH free AS (
    SELECT number
      FROM soloist.task
     WHERE app = :app AND model = :model AND id = :id
       AND (status = 'pending' OR (:restart AND status IN ('completed', 'failed', 'cancelled')))
       AND run = :run
       AND EXISTS (SELECT 1 FROM soloist.node WHERE node.id = :node AND NOT node.dead)
       FOR NO KEY UPDATE SKIP LOCKED
), claimed AS (
    UPDATE soloist.task
       SET status = CASE WHEN :here THEN 'running' ELSE 'queued' END, run = run + 1, attempt = 1,
           epoch = CASE WHEN :here THEN epoch + 1 ELSE epoch END, claim_id = :claim_id,
           node = CASE WHEN :here THEN :node END, started_at = CASE WHEN :here THEN :at END, updated_at = :at,
           place = CASE WHEN NOT :here THEN nextval('soloist.queue_place') END,
           run_start_seq = last_seq, retry_count = 0,
           completed_at = NULL, failed_at = NULL, cancelled_at = NULL, cancellation_reason = NULL,
           error_type = NULL, error_message = NULL, error_traceback = NULL, final_value = NULL
      FROM free
     WHERE task.number = free.number
       AND (status = 'pending' OR (:restart AND status IN ('completed', 'failed', 'cancelled')))
       AND run = :run
    RETURNING task.number, status, run, attempt, epoch, node, started_at, last_seq, cancellation_reason,
              retry_count, max_retries
), silenced AS (
    DELETE FROM soloist.signal USING claimed WHERE signal.task = claimed.number AND signal.run < claimed.run
)
SELECT claimed.*, (SELECT json FROM soloist.input WHERE input.task = claimed.number) AS input
  FROM claimed
