-- active_many: the same as active.sql, of the rows of many tasks.
-- called by  Store::claim, where others ask at the same moment
-- guard      none; it only reads
-- returns    the rows, each with its place among those asked for; no row means no such task
-- atomic     one statement with its own snapshot; locks nothing
SELECT asked.nth AS asked, task.*,
       EXISTS (SELECT 1 FROM soloist.node WHERE node.id = asked.asking AND NOT node.dead) AS alive
  FROM unnest(:apps, :models, :ids, :askings) WITH ORDINALITY AS asked (app, model, id, asking, nth)
 CROSS JOIN LATERAL (SELECT number, status, run, attempt, epoch, node, claim_id, started_at, last_seq,
                            cancellation_reason, retry_count, max_retries, node_losses, store_losses, next_run, taken_back,
                            signals
                       FROM soloist.task
                      WHERE app = asked.app AND model = asked.model AND id = asked.id AND status || '' <> 'deleted'
                     OFFSET 0) AS task
