-- claim_queued: make this node the holder of the next epoch of the task that was queued first.
-- called by  Store::claim_queued
-- guard      the task is queued and of one of these models, and the node is alive
-- returns    the claimed row; no row means that nothing waits for this node
-- atomic     one statement; the queue is read in the order of its index, up to the first that fits
UPDATE task
   SET status = 'running', epoch = epoch + 1, node = :node, place = NULL,
       started_at = coalesce(started_at, :at), updated_at = :at
 WHERE number = (SELECT number FROM task INDEXED BY task_queued
                  WHERE place IS NOT NULL AND app || '/' || model IN (SELECT value FROM json_each(:models))
                  ORDER BY place LIMIT 1)
   AND status = 'queued'
   AND EXISTS (SELECT 1 FROM node WHERE node.id = :node AND NOT node.dead)
RETURNING app, model, id, run, attempt, epoch, last_seq, started_at, retry_count, max_retries,
          (SELECT json FROM input WHERE input.task = task.number) AS input
