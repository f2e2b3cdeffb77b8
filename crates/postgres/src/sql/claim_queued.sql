-- claim_queued: make this node the holder of the next epoch of the task that was queued first.
-- called by  Store::claim_queued
-- guard      the task is queued, its time has come (ripen.sql) and it is of one of these models, and the node is alive; of a
--            model whose runs are bounded also: a slot of it is got
-- returns    the claimed row; a row without a number where others have all those locked that were looked at, or have taken
--            the slots that were free; no row means that nothing waits for this node
-- atomic     one statement; of each model the first :heads that wait are read in the order of its index, whatever waits for
--            other models or for its time, without a lock; the first of them all that nobody has locked is locked, and the
--            guard stands on the row that is updated. Only that index has the order of `place + 0`, and no index can be
--            asked for what is NOT DISTINCT: a planner that takes the queue for empty walks all of it. A slot is taken as in
--            claim.sql
WITH served AS MATERIALIZED (
    SELECT app, model, min(max_total) AS max_total
      FROM unnest(:apps, :models, :max_totals) AS named (app, model, max_total)
     GROUP BY app, model
), vacant AS MATERIALIZED (
    SELECT served.app, served.model, free.slot, free.task, free.epoch
      FROM served
     CROSS JOIN LATERAL (
           SELECT slot, task, epoch
             FROM soloist.model_slot
            WHERE model_slot.app = served.app AND model_slot.model = served.model
              AND model_slot.slot <= served.max_total
              AND (SELECT holder.node FROM soloist.task AS holder
                    WHERE holder.number = model_slot.task AND holder.epoch = model_slot.epoch) IS NULL
            ORDER BY model_slot.slot
            LIMIT :heads) AS free
     WHERE (SELECT count(*) FROM (SELECT 1 FROM soloist.task AS holding
                                   WHERE holding.app = served.app AND holding.model = served.model
                                     AND holding.node IS NOT NULL
                                   LIMIT served.max_total) AS held) < served.max_total
), waiting AS (
    SELECT head.number, head.place, served.app, served.model, served.max_total
      FROM served
     CROSS JOIN LATERAL (
           SELECT task.number, task.place
             FROM soloist.task
            WHERE task.app = served.app AND task.model = served.model
              AND task.place IS NOT NULL AND task.due_at IS NULL
            ORDER BY task.place + 0
            LIMIT :heads) AS head
     WHERE EXISTS (SELECT 1 FROM soloist.node WHERE node.id = :node AND NOT node.dead)
       AND (served.max_total IS NULL
            OR EXISTS (SELECT 1 FROM vacant WHERE vacant.app = served.app AND vacant.model = served.model))
     ORDER BY head.place
     LIMIT :heads
), first AS (
    SELECT task.number, waiting.app, waiting.model, waiting.max_total
      FROM waiting
      JOIN soloist.task ON task.number = waiting.number
     WHERE task.status IS NOT DISTINCT FROM 'queued' AND task.due_at IS NULL
     ORDER BY waiting.place
     LIMIT 1
       FOR NO KEY UPDATE OF task SKIP LOCKED
), taken AS (
    SELECT model_slot.app, model_slot.model, model_slot.slot
      FROM first
      JOIN vacant ON vacant.app = first.app AND vacant.model = first.model
      JOIN soloist.model_slot ON model_slot.app = vacant.app AND model_slot.model = vacant.model
                             AND model_slot.slot = vacant.slot
     WHERE model_slot.task IS NOT DISTINCT FROM vacant.task AND model_slot.epoch IS NOT DISTINCT FROM vacant.epoch
     LIMIT 1
       FOR NO KEY UPDATE OF model_slot SKIP LOCKED
), claimed AS (
    UPDATE soloist.task
       SET status = 'running', epoch = epoch + 1, node = :node, claim_id = :claim_id, place = NULL,
           started_at = coalesce(started_at, :at), updated_at = :at
      FROM first
     WHERE task.number = first.number AND status IS NOT DISTINCT FROM 'queued' AND due_at IS NULL
       AND (first.max_total IS NULL OR EXISTS (SELECT 1 FROM taken))
    RETURNING task.number, task.app, task.model, id, run, attempt, epoch, last_seq, started_at, retry_count, max_retries,
              timeout_seconds, deadline_seconds, node_losses, store_losses, trace_parent, trace_state
), seated AS (
    UPDATE soloist.model_slot
       SET task = claimed.number, epoch = claimed.epoch
      FROM claimed, taken
     WHERE model_slot.app = taken.app AND model_slot.model = taken.model AND model_slot.slot = taken.slot
)
SELECT claimed.*, (SELECT json FROM soloist.input WHERE input.task = claimed.number) AS input,
       seen.heads >= :heads AS more
  FROM (SELECT count(*) AS heads FROM waiting) AS seen
  LEFT JOIN claimed ON true
 WHERE claimed.number IS NOT NULL OR seen.heads >= :heads OR EXISTS (SELECT 1 FROM first)
