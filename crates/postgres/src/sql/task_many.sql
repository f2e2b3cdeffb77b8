-- task_many: the same as task.sql, of many tasks.
-- called by  Store::task, where others ask at the same moment
-- guard      none; it only reads
-- returns    the records, each with its place among those asked for; no row means no such task
-- atomic     one statement
SELECT asked.nth AS asked, task.*
  FROM unnest(:apps, :models, :ids) WITH ORDINALITY AS asked (app, model, id, nth)
 CROSS JOIN LATERAL (SELECT task.*, input.json AS input
                       FROM soloist.task
                       JOIN soloist.input ON input.task = task.number
                      WHERE app = asked.app AND model = asked.model AND id = asked.id AND status || '' <> 'deleted'
                     OFFSET 0) AS task
