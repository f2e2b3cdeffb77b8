-- held: the tasks on record as held by a node, in a status.
-- called by  Store::held
-- guard      none; it only reads
-- returns    the rows
-- atomic     one statement: one range of an index
SELECT app, model, id, status, run, attempt, epoch, node, started_at, last_seq, cancellation_reason,
       retry_count, max_retries, node_losses, store_losses, next_run, taken_back
  FROM task INDEXED BY task_held
 WHERE node = :node AND status = :status
