-- cancel: note on some held tasks that they are asked to stop, and tell the nodes that hold them.
-- called by  Store::apply
-- guard      the epoch and the status are the row's; a holder (a node is named) also: it is that node, and the log ends
--            where it says; others: the run is the one that they saw
-- returns    for each that was committed its place among those asked for, the task's number, the end of its log and the
--            node that holds it; no row means that the writer is fenced or the task has moved
-- atomic     one statement, as append.sql is; the inboxes are locked after the tasks, in the order of their nodes
WITH asked AS (
    SELECT *
      FROM unnest(:apps, :models, :ids, :epochs, :nodes, :afters, :runs, :counts, :epochs_after, :froms, :ats, :reasons,
                  :forgets)
           WITH ORDINALITY
           AS asked (app, model, id, epoch, node, after, run, count, epoch_after, from_status, at, reason, forget,
                     place)
), locked AS (
    SELECT task.number, asked.place
      FROM asked
      JOIN soloist.task USING (app, model, id)
     WHERE task.epoch = asked.epoch
     ORDER BY task.number
       FOR NO KEY UPDATE OF task
), set AS (
    UPDATE soloist.task
       SET status = 'cancelling', cancellation_reason = asked.reason, updated_at = asked.at,
           taken_back = task.taken_back + CASE WHEN asked.forget AND task.next_run > 0 THEN 1 ELSE 0 END,
           next_run = CASE WHEN asked.forget THEN 0 ELSE task.next_run END,
           last_seq = task.last_seq + asked.count, epoch = asked.epoch_after
      FROM locked
      JOIN asked USING (place)
     WHERE task.number = locked.number AND task.epoch = asked.epoch AND task.status = asked.from_status
       AND (asked.run IS NULL OR task.run = asked.run)
       AND (asked.node IS NULL OR (task.node = asked.node AND task.last_seq = asked.after))
    RETURNING asked.place, asked.count, task.number, task.run, task.last_seq, task.node
), written AS (
    INSERT INTO soloist.event_batch (task, first_seq, last_seq, run, epoch, bytes, events)
    SELECT set.number, set.last_seq - set.count + batch.first, set.last_seq - set.count + batch.last,
           set.run, batch.epoch, batch.bytes, batch.events
      FROM unnest(:batch_places, :batch_firsts, :batch_lasts, :batch_epochs, :batch_bytes, :batch_events)
           AS batch (place, first, last, epoch, bytes, events)
      JOIN set USING (place)
), inboxes AS (
    SELECT node FROM soloist.inbox WHERE node IN (SELECT node FROM set) ORDER BY node FOR NO KEY UPDATE
), told AS (
    UPDATE soloist.inbox SET count = inbox.count + 1 FROM inboxes WHERE inbox.node = inboxes.node
)
SELECT place AS asked, number, last_seq, node
  FROM set
