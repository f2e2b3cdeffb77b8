-- active: the part of a task's row that decides who may do what.
-- called by  Store::claim, Store::apply, Store::signal, Store::delete, Store::rows, to word the answer of a loser
-- guard      none; it only reads
-- returns    the row, and whether the node that asks is alive (none asks: false); no row means no such task
-- atomic     one statement with its own snapshot; locks nothing
SELECT status, run, attempt, epoch, node, started_at, last_seq, cancellation_reason,
       retry_count, max_retries, node_losses, store_losses, next_run, taken_back, number,
       EXISTS (SELECT 1 FROM node WHERE node.id = :asking AND NOT node.dead) AS alive
  FROM task
 WHERE app = :app AND model = :model AND id = :id
