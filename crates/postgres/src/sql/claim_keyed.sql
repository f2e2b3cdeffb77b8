-- claim_keyed: the same as claim.sql and want.sql under an idempotency key, which is kept with the answer, also where the
--            claim loses.
-- called by  Store::claim, where it brings an idempotency key
-- guard      the task is pending, or finished under the caller's policy, its last run is the one that is named (:after), or
--            none is named and none is owed, the node is alive, and the key was not used; nothing is kept where nothing was decided: the node of a
--            claim that would win is not alive, or the task was deleted and created anew since this statement began. Where a
--            run is active, that one more is wanted is noted where nobody has asked for as much before
-- returns    the row as it was decided on, and whether the claim won, or was the first to ask for one more run, then with the
--            row that it made; no row means that the key was used (used.sql), that there is no such task or that the node
--            is not alive (active.sql), or else that it goes round again
-- atomic     one statement: the task's row is locked before the key is looked up, so that of two uses of one key the
--            second meets what the first has left; the decision is about the locked row, which nobody else can change, and
--            what follows compares nothing with the row once more: that would be the row as it was when the statement began,
--            and a write that the lock has waited for would leave a start that was kept and did not happen. A
--            task that was created anew has a number, and an input, that the snapshot of this statement does not have: the
--            lock would find it, and the update would not. A slot is taken as in claim.sql
WITH found AS (
    SELECT *, (status = 'pending' OR (:restart AND status IN ('completed', 'failed', 'cancelled')))
              AND CASE WHEN :after IS NULL THEN next_run = 0 ELSE run = :after AND next_run > 0 END
              AND claim_id IS DISTINCT FROM :claim_id AS startable,
           CASE WHEN status IN ('queued', 'running', 'cancelling') THEN :wanted > 0
                ELSE status <> 'pending' AND next_run > 0 AND :restart AND :after IS NULL END AS asked_for_more,
           :here AND (run_at IS NULL OR run_at <= :at)
           AND (:max_total IS NULL
                OR NOT EXISTS (SELECT 1 FROM soloist.task AS first
                                WHERE first.app = :app AND first.model = :model
                                  AND first.place IS NOT NULL AND first.due_at IS NULL)) AS is_due
      FROM soloist.task
     WHERE app = :app AND model = :model AND id = :id AND status || '' <> 'deleted'
       FOR NO KEY UPDATE
), locked AS (
    SELECT * FROM found WHERE EXISTS (SELECT 1 FROM soloist.input WHERE input.task = found.number)
), used AS (
    INSERT INTO soloist.idempotency (subject, call, target, key, digest, task, name, started, run, used_at)
    SELECT :subject, :call, :target, :key, :digest, number, :target, startable,
           CASE WHEN startable OR asked_for_more THEN run + taken_back + 1 ELSE run END, :at
      FROM locked
     WHERE NOT startable OR EXISTS (SELECT 1 FROM soloist.node WHERE node.id = :node AND NOT node.dead)
        ON CONFLICT (subject, call, target, key) DO NOTHING
    RETURNING started
), vacant AS MATERIALIZED (
    SELECT slot, task, epoch
      FROM soloist.model_slot
     WHERE app = :app AND model = :model AND slot <= :max_total
       AND (SELECT count(*) FROM (SELECT 1 FROM soloist.task AS holding
                                   WHERE holding.app = :app AND holding.model = :model AND holding.node IS NOT NULL
                                   LIMIT :max_total) AS held) < :max_total
       AND (SELECT holder.node FROM soloist.task AS holder
             WHERE holder.number = model_slot.task AND holder.epoch = model_slot.epoch) IS NULL
     ORDER BY slot
), taken AS (
    SELECT model_slot.slot
      FROM vacant
      JOIN soloist.model_slot ON model_slot.app = :app AND model_slot.model = :model AND model_slot.slot = vacant.slot
     WHERE EXISTS (SELECT 1 FROM locked, used WHERE used.started AND locked.is_due)
       AND model_slot.task IS NOT DISTINCT FROM vacant.task AND model_slot.epoch IS NOT DISTINCT FROM vacant.epoch
     LIMIT 1
       FOR NO KEY UPDATE OF model_slot SKIP LOCKED
), decided AS (
    SELECT number, is_due AND (:max_total IS NULL OR EXISTS (SELECT 1 FROM taken)) AS is_here
      FROM locked, used
     WHERE used.started
), claimed AS (
    UPDATE soloist.task
       SET status = CASE WHEN is_here THEN 'running' ELSE 'queued' END, run = task.run + task.taken_back + 1,
           taken_back = 0, attempt = 1,
           epoch = CASE WHEN is_here THEN task.epoch + 1 ELSE task.epoch END, claim_id = :claim_id,
           node = CASE WHEN is_here THEN :node END, started_at = CASE WHEN is_here THEN :at END, updated_at = :at,
           place = CASE WHEN NOT is_here THEN nextval('soloist.queue_place') END,
           due_at = CASE WHEN run_at > :at THEN run_at END,
           trace_parent = :trace_parent, trace_state = :trace_state,
           run_start_seq = task.last_seq, retry_count = 0, node_losses = 0, store_losses = 0, next_run = 0,
           completed_at = NULL, failed_at = NULL, cancelled_at = NULL, cancellation_reason = NULL,
           error_type = NULL, error_message = NULL, error_traceback = NULL, final_value = NULL
      FROM decided
     WHERE task.number = decided.number
    RETURNING task.*
), seated AS (
    UPDATE soloist.model_slot
       SET task = claimed.number, epoch = claimed.epoch
      FROM claimed, taken
     WHERE claimed.status = 'running'
       AND model_slot.app = :app AND model_slot.model = :model AND model_slot.slot = taken.slot
), noted AS (
    UPDATE soloist.task
       SET next_run = :wanted
      FROM locked, used
     WHERE task.number = locked.number AND locked.asked_for_more AND locked.next_run < :wanted
       AND locked.status IN ('queued', 'running', 'cancelling')
    RETURNING task.*
), silenced AS (
    DELETE FROM soloist.signal USING claimed WHERE signal.task = claimed.number AND signal.run < claimed.run
), answer AS (
    SELECT number, status, run, attempt, epoch, node, started_at, last_seq, cancellation_reason, retry_count,
           max_retries, timeout_seconds, deadline_seconds, node_losses, store_losses, next_run,
           taken_back, trace_parent, trace_state, true AS won, false AS noted
      FROM claimed
     UNION ALL
    SELECT number, status, run, attempt, epoch, node, started_at, last_seq, cancellation_reason, retry_count,
           max_retries, timeout_seconds, deadline_seconds, node_losses, store_losses, next_run,
           taken_back, trace_parent, trace_state, false, true
      FROM noted
     UNION ALL
    SELECT number, status, run, attempt, epoch, node, started_at, last_seq, cancellation_reason, retry_count,
           max_retries, timeout_seconds, deadline_seconds, node_losses, store_losses, next_run,
           taken_back, trace_parent, trace_state, false, false
      FROM locked
     WHERE NOT EXISTS (SELECT 1 FROM claimed) AND NOT EXISTS (SELECT 1 FROM noted)
)
SELECT answer.*, used.started,
       CASE WHEN won THEN (SELECT json FROM soloist.input WHERE input.task = answer.number) END AS input
  FROM answer, used
