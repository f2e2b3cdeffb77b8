-- claim_queued: make this node the holder of the next epoch of the task that was queued first.
-- called by  Store::claim_queued
-- guard      the task is queued and of one of these models, and the node is alive
-- returns    the claimed row; no row means that nothing waits for this node
-- atomic     one statement; the queue is read in the order of its index, past what others have locked, up to the first
--            that fits, and the guard stands on the row that is updated
WITH first AS (
    SELECT number
      FROM soloist.task
     WHERE place IS NOT NULL AND status = 'queued'
       AND (app, model) IN (SELECT * FROM unnest(:apps, :models))
       AND EXISTS (SELECT 1 FROM soloist.node WHERE node.id = :node AND NOT node.dead)
     ORDER BY place
     LIMIT 1
       FOR NO KEY UPDATE SKIP LOCKED
), claimed AS (
    UPDATE soloist.task
       SET status = 'running', epoch = epoch + 1, node = :node, claim_id = :claim_id, place = NULL,
           started_at = coalesce(started_at, :at), updated_at = :at
      FROM first
     WHERE task.number = first.number AND status = 'queued'
    RETURNING task.number, app, model, id, run, attempt, epoch, last_seq, started_at, retry_count, max_retries
)
SELECT claimed.*, (SELECT json FROM soloist.input WHERE input.task = claimed.number) AS input
  FROM claimed
