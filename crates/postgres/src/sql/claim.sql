-- claim: make this node the holder of the next epoch of a task, or queue a new run of it.
-- called by  Store::claim, where it brings no idempotency key
-- guard      the task is pending, or finished under the caller's policy, its last run is the one that the look before has
--            seen (:run), after which one more is owed where it is claimed for that (:owed) and none where not, and the
--            node is alive; an orphan is active; so a task that was deleted and created anew since the look is begun by
--            nobody who was owed a run of the old one, and a claim that is sent again because its answer was
--            lost wins no second time, also where somebody else has claimed from the queue, and ended, what it had queued.
--            It is queued in any case before its time, and where :max_total is named also where others wait, or no slot of
--            the model is got
-- returns    the claimed row; no row means that the claim lost, or that somebody has the row locked
-- atomic     one statement: who finds the row locked passes it by, and the guard stands on the row that is updated;
--            losers are told by a second one, with its own snapshot (active.sql). A slot is judged by the snapshot, and taken
--            under its lock where it names what it was judged by: whoever has taken it since has written there; and an epoch
--            that is over is over for good, so a snapshot that is old takes a free slot for taken, and never the reverse.
--            Runs that were claimed while none were bounded have no slot; they count as the snapshot has them
WITH free AS (
    SELECT number, :here AND (run_at IS NULL OR run_at <= :at)
           AND (:max_total IS NULL
                OR NOT EXISTS (SELECT 1 FROM soloist.task AS first
                                WHERE first.app = :app AND first.model = :model
                                  AND first.place IS NOT NULL AND first.due_at IS NULL)) AS is_here
      FROM soloist.task
     WHERE app = :app AND model = :model AND id = :id
       AND (status || '' = 'pending' OR (:restart AND status IN ('completed', 'failed', 'cancelled')))
       AND run = :run AND (next_run > 0) = :owed
       AND EXISTS (SELECT 1 FROM soloist.node WHERE node.id = :node AND NOT node.dead)
       FOR NO KEY UPDATE SKIP LOCKED
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
     WHERE EXISTS (SELECT 1 FROM free WHERE is_here)
       AND model_slot.task IS NOT DISTINCT FROM vacant.task AND model_slot.epoch IS NOT DISTINCT FROM vacant.epoch
     LIMIT 1
       FOR NO KEY UPDATE OF model_slot SKIP LOCKED
), decided AS (
    SELECT number, is_here AND (:max_total IS NULL OR EXISTS (SELECT 1 FROM taken)) AS is_here FROM free
), claimed AS (
    UPDATE soloist.task
       SET status = CASE WHEN is_here THEN 'running' ELSE 'queued' END, run = run + taken_back + 1, taken_back = 0,
           attempt = 1,
           epoch = CASE WHEN is_here THEN epoch + 1 ELSE epoch END, claim_id = :claim_id,
           node = CASE WHEN is_here THEN :node END, started_at = CASE WHEN is_here THEN :at END, updated_at = :at,
           place = CASE WHEN NOT is_here THEN nextval('soloist.queue_place') END,
           due_at = CASE WHEN run_at > :at THEN run_at END,
           trace_parent = :trace_parent, trace_state = :trace_state,
           run_start_seq = last_seq, retry_count = 0, node_losses = 0, store_losses = 0, next_run = 0,
           completed_at = NULL, failed_at = NULL, cancelled_at = NULL, cancellation_reason = NULL,
           error_type = NULL, error_message = NULL, error_traceback = NULL, final_value = NULL
      FROM decided
     WHERE task.number = decided.number
       AND (status = 'pending' OR (:restart AND status IN ('completed', 'failed', 'cancelled')))
       AND run = :run AND (next_run > 0) = :owed
    RETURNING task.number, status, run, attempt, epoch, node, started_at, last_seq, cancellation_reason,
              retry_count, max_retries, timeout_seconds, deadline_seconds, node_losses, store_losses, next_run,
              taken_back, trace_parent, trace_state
), seated AS (
    UPDATE soloist.model_slot
       SET task = claimed.number, epoch = claimed.epoch
      FROM claimed, taken
     WHERE claimed.status = 'running'
       AND model_slot.app = :app AND model_slot.model = :model AND model_slot.slot = taken.slot
), silenced AS (
    DELETE FROM soloist.signal USING claimed WHERE signal.task = claimed.number AND signal.run < claimed.run
)
SELECT claimed.*, (SELECT json FROM soloist.input WHERE input.task = claimed.number) AS input
  FROM claimed
