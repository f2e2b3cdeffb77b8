-- finish: end a task: its status, how it ended, and the end of its log in one step.
-- called by  Store::apply
-- guard      the epoch and the status are the row's; a holder (:node) also: node and end of the log (:after); others: the run (:run)
-- returns    the row; no row means that the writer is fenced or the task has moved (refused in store::guard says which)
-- atomic     one statement, in the transaction of its events
UPDATE task
   SET status = :to, node = NULL, place = NULL, due_at = NULL,
       taken_back = taken_back + (:forget AND next_run > 0), next_run = iif(:forget, 0, next_run),
       updated_at = :at, last_seq = last_seq + :count, epoch = :epoch_after,
       completed_at = iif(:to = 'completed', :at, completed_at),
       failed_at = iif(:to = 'failed', :at, failed_at),
       cancelled_at = iif(:to = 'cancelled', :at, cancelled_at),
       final_value = coalesce(:final_value, final_value),
       error_type = coalesce(:error_type, error_type),
       error_message = coalesce(:error_message, error_message),
       error_traceback = coalesce(:error_traceback, error_traceback),
       cancellation_reason = :reason
 WHERE app = :app AND model = :model AND id = :id AND epoch = :epoch
   AND status = :from
   AND (:run IS NULL OR run = :run) AND (:node IS NULL OR (node = :node AND last_seq = :after))
RETURNING number, run, last_seq
