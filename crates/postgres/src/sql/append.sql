-- append: move the ends of the logs of some tasks, and write the events there.
-- called by  Store::apply, for a change of the log only
-- guard      the epoch is the row's and a node holds it; a holder (a node is named) also: it is that node, and the log ends
--            where it says; others: the run is the one that they saw
-- returns    for each that was committed its place among those asked for, the task's number and the end of its log; no
--            row means that the writer is fenced, late or early (refused in store::guard says which)
-- atomic     one statement: the rows are locked in the order of their numbers, the guard stands on the row that is
--            updated, and the events written are those of the rows so updated; one that is refused fails no other, and one
--            of an old epoch locks nothing
WITH asked AS (
    SELECT *
      FROM unnest(:apps, :models, :ids, :epochs, :nodes, :afters, :runs, :counts, :epochs_after)
           WITH ORDINALITY AS asked (app, model, id, epoch, node, after, run, count, epoch_after, place)
), locked AS (
    SELECT task.number, asked.place
      FROM asked
      JOIN soloist.task USING (app, model, id)
     WHERE task.epoch = asked.epoch
     ORDER BY task.number
       FOR NO KEY UPDATE OF task
), set AS (
    UPDATE soloist.task
       SET last_seq = task.last_seq + asked.count, epoch = asked.epoch_after
      FROM locked
      JOIN asked USING (place)
     WHERE task.number = locked.number AND task.epoch = asked.epoch
       AND task.status IN ('running', 'cancelling')
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
SELECT set.place AS asked, set.number, set.last_seq,
       (SELECT CASE WHEN :relaxed THEN set_config('synchronous_commit', 'off', true) END) AS durability
  FROM set
