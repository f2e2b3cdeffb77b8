-- orphans: tasks on record as held by a node that is dead or gone.
-- called by  Store::orphans
-- guard      none; it only reads, and a takeover compares the epoch that it saw
-- returns    the rows, oldest task first
-- atomic     one statement
SELECT app, model, id, status, run, attempt, epoch, node, started_at, last_seq, cancellation_reason,
       retry_count, max_retries, node_losses, store_losses, next_run, taken_back
  FROM task INDEXED BY task_held
 WHERE node IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM node WHERE node.id = task.node AND NOT node.dead)
 ORDER BY number
 LIMIT :limit
