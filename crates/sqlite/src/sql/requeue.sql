-- requeue: take a held task off its node, for another attempt of the same run.
-- called by  Store::apply
-- guard      the epoch and the status are the row's; a holder (:node) also: node and end of the log (:after); others: the run (:run)
-- returns    the row; no row means that the writer is fenced or the task has moved (refused in store::guard says which)
-- atomic     one statement, in the transaction of its events
UPDATE task
   SET status = 'queued', node = NULL, attempt = :attempt, retry_count = :retry_count, updated_at = :at,
       node_losses = :node_losses, store_losses = :store_losses, due_at = :due_at,
       place = (SELECT coalesce(max(place), 0) + 1 FROM task WHERE place IS NOT NULL),
       last_seq = last_seq + :count, epoch = :epoch_after
 WHERE app = :app AND model = :model AND id = :id AND epoch = :epoch
   AND status = :from
   AND (:run IS NULL OR run = :run) AND (:node IS NULL OR (node = :node AND last_seq = :after))
RETURNING number, run, last_seq
