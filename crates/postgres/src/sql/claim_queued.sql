-- claim_queued: make this node the holder of the next epoch of the task that was queued first.
-- called by  Store::claim_queued
-- guard      the task is queued and of one of these models, and the node is alive
-- returns    the claimed row; a row without a number where others have all those locked that were looked at; no row means
--            that nothing waits for this node
-- atomic     one statement; of each model the first :heads that wait are read in the order of its index, whatever waits for
--            other models, without a lock; the first of them all that nobody has locked is locked, and the guard stands on
--            the row that is updated. Only that index has the order of `place + 0`,
--            and no index can be asked for what is NOT DISTINCT: a planner that takes the queue for empty walks all of it
WITH waiting AS (
    SELECT head.number, head.place
      FROM (SELECT DISTINCT app, model FROM unnest(:apps, :models) AS named (app, model)) AS served
     CROSS JOIN LATERAL (
           SELECT task.number, task.place
             FROM soloist.task
            WHERE task.app = served.app AND task.model = served.model AND task.place IS NOT NULL
            ORDER BY task.place + 0
            LIMIT :heads) AS head
     WHERE EXISTS (SELECT 1 FROM soloist.node WHERE node.id = :node AND NOT node.dead)
     ORDER BY head.place
     LIMIT :heads
), first AS (
    SELECT task.number
      FROM waiting
      JOIN soloist.task ON task.number = waiting.number
     WHERE task.status IS NOT DISTINCT FROM 'queued'
     ORDER BY waiting.place
     LIMIT 1
       FOR NO KEY UPDATE OF task SKIP LOCKED
), claimed AS (
    UPDATE soloist.task
       SET status = 'running', epoch = epoch + 1, node = :node, claim_id = :claim_id, place = NULL,
           started_at = coalesce(started_at, :at), updated_at = :at
      FROM first
     WHERE task.number = first.number AND status IS NOT DISTINCT FROM 'queued'
    RETURNING task.number, app, model, id, run, attempt, epoch, last_seq, started_at, retry_count, max_retries
)
SELECT claimed.*, (SELECT json FROM soloist.input WHERE input.task = claimed.number) AS input
  FROM (SELECT count(*) AS heads FROM waiting) AS seen
  LEFT JOIN claimed ON true
 WHERE claimed.number IS NOT NULL OR seen.heads >= :heads
