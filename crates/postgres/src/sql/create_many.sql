-- create_many: the same as create.sql for many tasks, of which no two are named alike; all of them are named, or none is.
-- called by  Store::create, Store::create_claimed, where others create at the same moment
-- guard      of each as in create.sql: no task of that key is there; where no id is named the next ones of the model are
--            assigned, in the order in which they were asked for; its run is begun where a node is named, and alive
-- returns    the records, each with its place among those asked for; no row means the same as in create.sql
-- atomic     one statement, that takes the rows of the models and then those of the tasks, each in the order of their keys,
--            so that of two at once neither waits for what the other waits for; one that is taken makes no other fail
WITH asked AS (
    SELECT *
      FROM unnest(:apps, :models, :ids, :owners, :max_retries, :timeout_seconds, :deadline_seconds, :run_ats, :inputs, :ats,
                  :nodes, :claim_ids, :heres, :trace_parents, :trace_states)
           WITH ORDINALITY
           AS asked (app, model, id, owner, max_retries, timeout_seconds, deadline_seconds, run_at, input, at,
                     node, claim_id, here, trace_parent, trace_state, nth)
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
), alive AS (
    SELECT id FROM soloist.node WHERE id = ANY (:nodes) AND NOT dead
), first AS (
    SELECT asked.*, alive.id IS NOT NULL AS is_claimed,
           alive.id IS NOT NULL AND asked.here AND (asked.run_at IS NULL OR asked.run_at <= asked.at) AS is_here
      FROM asked
      LEFT JOIN alive ON alive.id = asked.node
), made AS (
    INSERT INTO soloist.task (number, app, model, id, owner, max_retries, timeout_seconds, deadline_seconds, run_at,
                              created_at, updated_at, status, run, attempt, epoch, claim_id, node, started_at, place,
                              due_at, trace_parent, trace_state)
    SELECT numbered.number, numbered.app, numbered.model, numbered.id, first.owner, first.max_retries,
           first.timeout_seconds, first.deadline_seconds, first.run_at, first.at, first.at,
           CASE WHEN is_here THEN 'running' WHEN is_claimed THEN 'queued' ELSE 'pending' END,
           is_claimed::integer, is_claimed::integer, is_here::integer, CASE WHEN is_claimed THEN first.claim_id END,
           CASE WHEN is_here THEN first.node END, CASE WHEN is_here THEN first.at END,
           CASE WHEN is_claimed AND NOT is_here THEN nextval('soloist.queue_place') END,
           CASE WHEN is_claimed AND first.run_at > first.at THEN first.run_at END,
           CASE WHEN is_claimed THEN first.trace_parent END, CASE WHEN is_claimed THEN first.trace_state END
      FROM numbered
      JOIN first USING (nth)
     ORDER BY numbered.app, numbered.model, numbered.id
        ON CONFLICT (app, model, id) DO UPDATE
       SET number = excluded.number, status = 'pending', deleted_at = NULL, attempt = 0, claim_id = NULL,
           run_start_seq = task.last_seq, signals = 0, retry_count = 0, node_losses = 0, store_losses = 0, next_run = 0, owner = excluded.owner,
           max_retries = excluded.max_retries, timeout_seconds = excluded.timeout_seconds,
           deadline_seconds = excluded.deadline_seconds, run_at = excluded.run_at,
           created_at = excluded.created_at, updated_at = excluded.updated_at
     WHERE task.status = 'deleted' AND excluded.run = 0
    RETURNING *
), given AS (
    INSERT INTO soloist.input (task, json)
    SELECT made.number, asked.input FROM made JOIN numbered USING (number) JOIN asked USING (nth)
)
SELECT numbered.nth AS asked, made.*, asked.input
  FROM made
  JOIN numbered USING (number)
  JOIN asked USING (nth)
