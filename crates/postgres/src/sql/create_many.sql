-- create_many: the same as create.sql for many tasks, of which no two are named alike; all of them are named, or none is.
-- called by  Store::create, where others create at the same moment
-- guard      of each as in create.sql: no task of that key is there; where no id is named the next ones of the model are
--            assigned, in the order in which they were asked for
-- returns    the records, each with its place among those asked for; no row means that the key is taken
-- atomic     one statement, that takes the rows of the models and then those of the tasks, each in the order of their keys,
--            so that of two at once neither waits for what the other waits for; one that is taken makes no other fail
WITH asked AS (
    SELECT *
      FROM unnest(:apps, :models, :ids, :owners, :max_retries, :timeout_seconds, :deadline_seconds, :run_ats, :inputs, :ats)
           WITH ORDINALITY
           AS asked (app, model, id, owner, max_retries, timeout_seconds, deadline_seconds, run_at, input, at, nth)
), assigned AS (
    INSERT INTO soloist.model_id (app, model, last_id)
    SELECT app, model, count(*) FROM asked WHERE id IS NULL GROUP BY app, model ORDER BY app, model
        ON CONFLICT (app, model) DO UPDATE SET last_id = model_id.last_id + excluded.last_id
    RETURNING app, model, last_id
), named AS (
    SELECT asked.nth, asked.app, asked.model, asked.id FROM asked WHERE asked.id IS NOT NULL
     UNION ALL
    SELECT asked.nth, asked.app, asked.model,
           (assigned.last_id + 1 - row_number() OVER (PARTITION BY asked.app, asked.model ORDER BY asked.nth DESC))::text
      FROM asked
      JOIN assigned USING (app, model)
     WHERE asked.id IS NULL
), numbered AS MATERIALIZED (
    SELECT nth, app, model, id, nextval('soloist.task_number') AS number
      FROM (SELECT * FROM named ORDER BY nth) AS named
), made AS (
    INSERT INTO soloist.task (number, app, model, id, owner, max_retries, timeout_seconds, deadline_seconds, run_at,
                              created_at, updated_at)
    SELECT numbered.number, numbered.app, numbered.model, numbered.id, asked.owner, asked.max_retries,
           asked.timeout_seconds, asked.deadline_seconds, asked.run_at, asked.at, asked.at
      FROM numbered
      JOIN asked USING (nth)
     ORDER BY numbered.app, numbered.model, numbered.id
        ON CONFLICT (app, model, id) DO UPDATE
       SET number = excluded.number, status = 'pending', deleted_at = NULL, attempt = 0,
           claim_id = NULL, run_start_seq = task.last_seq, signals = 0, retry_count = 0,
           node_losses = 0, store_losses = 0, next_run = 0, owner = excluded.owner, max_retries = excluded.max_retries,
           timeout_seconds = excluded.timeout_seconds, deadline_seconds = excluded.deadline_seconds,
           run_at = excluded.run_at,
           created_at = excluded.created_at, updated_at = excluded.updated_at
     WHERE task.status = 'deleted'
    RETURNING *
), given AS (
    INSERT INTO soloist.input (task, json)
    SELECT made.number, asked.input FROM made JOIN numbered USING (number) JOIN asked USING (nth)
)
SELECT numbered.nth AS asked, made.*, asked.input
  FROM made
  JOIN numbered USING (number)
  JOIN asked USING (nth)
