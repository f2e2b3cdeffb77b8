-- rows: the parts that decide, of the rows of many tasks.
-- called by  Store::rows; Store::apply, to word the answers of those that were refused
-- guard      none; it only reads
-- returns    the rows, each with its place among those asked for; no row means no such task
-- atomic     one statement with its own snapshot; locks nothing
SELECT asked.place AS asked, number, status, run, attempt, epoch, node, started_at, last_seq, cancellation_reason,
       retry_count, max_retries, node_losses, store_losses, next_run, taken_back
  FROM unnest(:apps, :models, :ids) WITH ORDINALITY AS asked (app, model, id, place)
  JOIN soloist.task USING (app, model, id)
 WHERE status || '' <> 'deleted'
