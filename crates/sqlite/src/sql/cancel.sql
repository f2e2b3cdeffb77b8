-- cancel: note on a held task that it is asked to stop.
-- called by  Store::apply
-- guard      the epoch and the status are the row's; a holder (:node) also: node and end of the log (:after); others: the run (:run)
-- returns    the row; no row means that the writer is fenced or the task has moved (refused in store::guard says which)
-- atomic     one statement, in the transaction of its events
UPDATE task
   SET status = 'cancelling', cancellation_reason = :reason, updated_at = :at,
       last_seq = last_seq + :count, epoch = :epoch_after,
       taken_back = taken_back + (:forget AND next_run > 0), next_run = iif(:forget, 0, next_run)
 WHERE app = :app AND model = :model AND id = :id AND epoch = :epoch
   AND status = :from
   AND (:run IS NULL OR run = :run) AND (:node IS NULL OR (node = :node AND last_seq = :after))
RETURNING number, run, last_seq
