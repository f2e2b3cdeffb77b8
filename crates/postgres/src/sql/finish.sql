-- finish: end some tasks: of each its status, how it ended, and the end of its log in one step; its signals go.
-- called by  Store::apply
-- guard      the epoch and the status are the row's; a holder (a node is named) also: it is that node, and the log ends
--            where it says; others: the run is the one that they saw
-- returns    for each that was committed its place among those asked for, the task's number, the end of its log, and
--            whether the runs of its model are bounded over all nodes, so that others may wait for the end of one; no row
--            means that the writer is fenced or the task has moved (refused in store::guard says which)
-- atomic     one statement, as append.sql is; a signal that is sent in the same moment may stay behind, also one for the
--            next run where a pending task is cancelled: the row counts none (signals.sql), so nobody reads it, the next
--            one of that number replaces it (signal.sql), and the next claim or ending removes it
WITH asked AS (
    SELECT *
      FROM unnest(:apps, :models, :ids, :epochs, :nodes, :afters, :runs, :counts, :epochs_after, :froms, :ats, :tos,
                  :final_values, :error_types, :error_messages, :error_tracebacks, :reasons, :forgets)
           WITH ORDINALITY
           AS asked (app, model, id, epoch, node, after, run, count, epoch_after, from_status, at, to_status,
                     final_value, error_type, error_message, error_traceback, reason, forget, place)
), locked AS (
    SELECT task.number, asked.place
      FROM asked
      JOIN soloist.task USING (app, model, id)
     WHERE task.epoch = asked.epoch
     ORDER BY task.number
       FOR NO KEY UPDATE OF task
), set AS (
    UPDATE soloist.task
       SET status = asked.to_status, node = NULL, place = NULL, due_at = NULL, signals = 0, updated_at = asked.at,
           taken_back = task.taken_back + CASE WHEN asked.forget AND task.next_run > 0 THEN 1 ELSE 0 END,
           next_run = CASE WHEN asked.forget THEN 0 ELSE task.next_run END,
           last_seq = task.last_seq + asked.count, epoch = asked.epoch_after,
           completed_at = CASE WHEN asked.to_status = 'completed' THEN asked.at ELSE task.completed_at END,
           failed_at = CASE WHEN asked.to_status = 'failed' THEN asked.at ELSE task.failed_at END,
           cancelled_at = CASE WHEN asked.to_status = 'cancelled' THEN asked.at ELSE task.cancelled_at END,
           final_value = coalesce(asked.final_value, task.final_value),
           error_type = coalesce(asked.error_type, task.error_type),
           error_message = coalesce(asked.error_message, task.error_message),
           error_traceback = coalesce(asked.error_traceback, task.error_traceback),
           cancellation_reason = asked.reason
      FROM locked
      JOIN asked USING (place)
     WHERE task.number = locked.number AND task.epoch = asked.epoch AND task.status = asked.from_status
       AND (asked.run IS NULL OR task.run = asked.run)
       AND (asked.node IS NULL OR (task.node = asked.node AND task.last_seq = asked.after))
    RETURNING asked.place, asked.count, task.number, task.app, task.model, task.run, task.last_seq
), written AS (
    INSERT INTO soloist.event_batch (task, first_seq, last_seq, run, epoch, bytes, events)
    SELECT set.number, set.last_seq - set.count + batch.first, set.last_seq - set.count + batch.last,
           set.run, batch.epoch, batch.bytes, batch.events
      FROM unnest(:batch_places, :batch_firsts, :batch_lasts, :batch_epochs, :batch_bytes, :batch_events)
           AS batch (place, first, last, epoch, bytes, events)
      JOIN set USING (place)
), silenced AS (
    DELETE FROM soloist.signal USING set WHERE signal.task = set.number
)
SELECT place AS asked, number, last_seq,
       EXISTS (SELECT 1 FROM soloist.model_slot
                WHERE model_slot.app = set.app AND model_slot.model = set.model) AS is_bounded
  FROM set
