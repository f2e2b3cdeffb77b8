-- active: the part of a task's row that decides who may do what.
-- called by  Store::claim, Store::signal, Store::delete, to word the answer of a loser
-- guard      none; it only reads
-- returns    the row, and whether the node that asks is alive; no row means no such task
-- atomic     one statement with its own snapshot; locks nothing
SELECT number, status, run, attempt, epoch, node, claim_id, started_at, last_seq, cancellation_reason,
       retry_count, max_retries, node_losses, store_losses, next_run, taken_back, signals,
       EXISTS (SELECT 1 FROM soloist.node WHERE node.id = :asking AND NOT node.dead) AS alive
  FROM soloist.task
 WHERE app = :app AND model = :model AND id = :id AND status || '' <> 'deleted'
