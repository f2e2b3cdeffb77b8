-- claim_queued: make this node the holder of the next epoch of the task that was queued first.
-- called by  Store::claim_queued
-- guard      the task is ready and of one of these models, of which fewer run than its max_total says; the node is alive
-- returns    the claimed row; no row means that nothing waits for this node
-- atomic     one statement; of each model the first in the order of its index is read, whatever waits for others
UPDATE task
   SET status = 'running', epoch = epoch + 1, node = :node, place = NULL,
       started_at = coalesce(started_at, :at), updated_at = :at
 WHERE number = (SELECT head.number
                   FROM (SELECT value ->> 0 AS app, value ->> 1 AS model, value ->> 2 AS max_total
                           FROM json_each(:models)) AS wanted
                   JOIN task AS head
                     ON head.number = (SELECT number FROM task AS first INDEXED BY task_ready
                                        WHERE first.app = wanted.app AND first.model = wanted.model
                                          AND first.place IS NOT NULL AND first.due_at IS NULL
                                        ORDER BY first.place LIMIT 1)
                  WHERE wanted.max_total IS NULL
                     OR (SELECT count(*) FROM task AS held INDEXED BY task_held_of_model
                          WHERE held.app = wanted.app AND held.model = wanted.model AND held.node IS NOT NULL)
                        < wanted.max_total
                  ORDER BY head.place
                  LIMIT 1)
   AND status = 'queued'
   AND EXISTS (SELECT 1 FROM node WHERE node.id = :node AND NOT node.dead)
RETURNING app, model, id, run, attempt, epoch, last_seq, started_at, retry_count, max_retries, timeout_seconds,
          deadline_seconds, node_losses, store_losses, trace_parent, trace_state,
          (SELECT json FROM input WHERE input.task = task.number) AS input
