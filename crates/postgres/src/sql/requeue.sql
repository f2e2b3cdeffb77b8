-- requeue: take some held tasks off their nodes, each for another attempt of the same run.
-- called by  Store::apply
-- guard      the epoch and the status are the row's; a holder (a node is named) also: it is that node, and the log ends
--            where it says; others: the run is the one that they saw
-- returns    for each that was committed its place among those asked for, the task's number and the end of its log; no
--            row means that the writer is fenced or the task has moved (refused in store::guard says which)
-- atomic     one statement, as append.sql is
WITH asked AS (
    SELECT *
      FROM unnest(:apps, :models, :ids, :epochs, :nodes, :afters, :runs, :counts, :epochs_after, :froms, :ats, :attempts,
                  :retry_counts, :node_losses, :store_losses, :due_ats)
           WITH ORDINALITY
           AS asked (app, model, id, epoch, node, after, run, count, epoch_after, from_status, at, attempt, retry_count,
                     node_losses, store_losses, due_at, place)
), locked AS (
    SELECT task.number, asked.place
      FROM asked
      JOIN soloist.task USING (app, model, id)
     WHERE task.epoch = asked.epoch
     ORDER BY task.number
       FOR NO KEY UPDATE OF task
), set AS (
    UPDATE soloist.task
       SET status = 'queued', node = NULL, attempt = asked.attempt, retry_count = asked.retry_count,
           node_losses = asked.node_losses, store_losses = asked.store_losses, due_at = asked.due_at,
           updated_at = asked.at, place = nextval('soloist.queue_place'),
           last_seq = task.last_seq + asked.count, epoch = asked.epoch_after
      FROM locked
      JOIN asked USING (place)
     WHERE task.number = locked.number AND task.epoch = asked.epoch AND task.status = asked.from_status
       AND (asked.run IS NULL OR task.run = asked.run)
       AND (asked.node IS NULL OR (task.node = asked.node AND task.last_seq = asked.after))
    RETURNING asked.place, asked.count, task.number, task.run, task.last_seq
), written AS (
    INSERT INTO soloist.event_batch (task, first_seq, last_seq, run, epoch, bytes, events)
    SELECT set.number, set.last_seq - set.count + batch.first, set.last_seq - set.count + batch.last,
           set.run, batch.epoch, batch.bytes, batch.events
      FROM unnest(:batch_places, :batch_firsts, :batch_lasts, :batch_epochs, :batch_bytes, :batch_events)
           AS batch (place, first, last, epoch, bytes, events)
      JOIN set USING (place)
)
SELECT place AS asked, number, last_seq
  FROM set
