-- append: move the end of a task's log, for the events that event.sql then writes.
-- called by  Store::apply, for a change of the log only
-- guard      the epoch is the row's and a node holds it; a holder (:node) also: node and end of the log (:after); others: the run (:run)
-- returns    the row; no row means that the writer is fenced, late or early (refused in store::guard says which)
-- atomic     one statement, in the transaction of its events
UPDATE task
   SET last_seq = last_seq + :count, epoch = :epoch_after
 WHERE app = :app AND model = :model AND id = :id AND epoch = :epoch
   AND status IN ('running', 'cancelling')
   AND (:run IS NULL OR run = :run) AND (:node IS NULL OR (node = :node AND last_seq = :after))
RETURNING number, run, last_seq
