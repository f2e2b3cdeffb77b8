-- claim_keyed: the same as claim.sql under an idempotency key, which is kept with the answer, also where the claim loses.
-- called by  Store::claim, where it brings an idempotency key
-- guard      the task is pending, or finished under the caller's policy, the node is alive, and the key was not used; nothing
--            is kept where nothing was decided: the node of a claim that would win is not alive, or the task was deleted and
--            created anew since this statement began
-- returns    the row as it was decided on, and whether the claim won, then with the row that it made; no row means that
--            the key was used (used.sql), that there is no such task or that the node is not alive (active.sql), or else
--            that it goes round again
-- atomic     one statement: the task's row is locked before the key is looked up, so that of two uses of one key the
--            second meets what the first has left; the decision is about the locked row, which nobody else can change. A
--            task that was created anew has a number, and an input, that the snapshot of this statement does not have: the
--            lock would find it, and the update would not
WITH found AS (
    SELECT *, (status = 'pending' OR (:restart AND status IN ('completed', 'failed', 'cancelled')))
              AND claim_id IS DISTINCT FROM :claim_id AS startable
      FROM soloist.task
     WHERE app = :app AND model = :model AND id = :id AND status <> 'deleted'
       FOR NO KEY UPDATE
), locked AS (
    SELECT * FROM found WHERE EXISTS (SELECT 1 FROM soloist.input WHERE input.task = found.number)
), used AS (
    INSERT INTO soloist.idempotency (subject, call, target, key, digest, task, name, started, run, used_at)
    SELECT :subject, :call, :target, :key, :digest, number, :target, startable,
           CASE WHEN startable THEN run + 1 ELSE run END, :at
      FROM locked
     WHERE NOT startable OR EXISTS (SELECT 1 FROM soloist.node WHERE node.id = :node AND NOT node.dead)
        ON CONFLICT (subject, call, target, key) DO NOTHING
    RETURNING started
), claimed AS (
    UPDATE soloist.task
       SET status = CASE WHEN :here THEN 'running' ELSE 'queued' END, run = task.run + 1, attempt = 1,
           epoch = CASE WHEN :here THEN task.epoch + 1 ELSE task.epoch END, claim_id = :claim_id,
           node = CASE WHEN :here THEN :node END, started_at = CASE WHEN :here THEN :at END, updated_at = :at,
           place = CASE WHEN NOT :here THEN nextval('soloist.queue_place') END,
           run_start_seq = task.last_seq, retry_count = 0,
           completed_at = NULL, failed_at = NULL, cancelled_at = NULL, cancellation_reason = NULL,
           error_type = NULL, error_message = NULL, error_traceback = NULL, final_value = NULL
      FROM locked, used
     WHERE task.number = locked.number AND used.started
       AND (task.status = 'pending' OR (:restart AND task.status IN ('completed', 'failed', 'cancelled')))
    RETURNING task.*
), silenced AS (
    DELETE FROM soloist.signal USING claimed WHERE signal.task = claimed.number AND signal.run < claimed.run
), answer AS (
    SELECT number, status, run, attempt, epoch, node, started_at, last_seq, cancellation_reason, retry_count,
           max_retries, true AS won
      FROM claimed
     UNION ALL
    SELECT number, status, run, attempt, epoch, node, started_at, last_seq, cancellation_reason, retry_count,
           max_retries, false
      FROM locked
     WHERE NOT EXISTS (SELECT 1 FROM claimed)
)
SELECT answer.*, used.started,
       CASE WHEN won THEN (SELECT json FROM soloist.input WHERE input.task = answer.number) END AS input
  FROM answer, used
