-- create: put a new task on record, pending or with its first run, and what it was given; where its key was deleted it goes on
--            from there.
-- called by  Store::create, Store::create_claimed, again while the id that it has assigned is taken
-- guard      no task of that key is there; where no id is named (:id) the next one of the model is assigned, which rises,
--            skips what is taken, and may leave gaps. Its run is begun where :node is named, and alive; it is queued before
--            its time, and where it is not to be here. No run is begun over a tombstone: so one that is sent again, or comes
--            late, begins nothing after its task was run and deleted
-- returns    the record; no row means that the key is taken, or that a run was to be begun over a tombstone
-- atomic     one statement; the numbers that a tombstone keeps are those of the very row that becomes the new task
WITH assigned AS (
    INSERT INTO soloist.model_id (app, model, last_id)
    SELECT :app, :model, 1 WHERE :id IS NULL
        ON CONFLICT (app, model) DO UPDATE SET last_id = model_id.last_id + 1
    RETURNING last_id::text AS id
), named AS (
    SELECT :id AS id WHERE :id IS NOT NULL UNION ALL SELECT id FROM assigned
), alive AS (
    SELECT EXISTS (SELECT 1 FROM soloist.node WHERE node.id = :node AND NOT node.dead) AS is_claimed
), first AS (
    SELECT is_claimed, is_claimed AND :here AND (:run_at IS NULL OR :run_at <= :at) AS is_here FROM alive
), made AS (
    INSERT INTO soloist.task (app, model, id, owner, max_retries, timeout_seconds, deadline_seconds, run_at,
                              created_at, updated_at, status, run, attempt, epoch, claim_id, node, started_at, place,
                              due_at, trace_parent, trace_state)
    SELECT :app, :model, named.id, :owner, :max_retries, :timeout_seconds, :deadline_seconds, :run_at, :at, :at,
           CASE WHEN is_here THEN 'running' WHEN is_claimed THEN 'queued' ELSE 'pending' END,
           is_claimed::integer, is_claimed::integer, is_here::integer, CASE WHEN is_claimed THEN :claim_id END,
           CASE WHEN is_here THEN :node END, CASE WHEN is_here THEN :at END,
           CASE WHEN is_claimed AND NOT is_here THEN nextval('soloist.queue_place') END,
           CASE WHEN is_claimed AND :run_at > :at THEN :run_at END,
           CASE WHEN is_claimed THEN :trace_parent END, CASE WHEN is_claimed THEN :trace_state END
      FROM named, first
        ON CONFLICT (app, model, id) DO UPDATE
       SET number = nextval('soloist.task_number'), status = 'pending', deleted_at = NULL, attempt = 0, claim_id = NULL,
           run_start_seq = task.last_seq, signals = 0, retry_count = 0, node_losses = 0, store_losses = 0, next_run = 0, owner = excluded.owner,
           max_retries = excluded.max_retries, timeout_seconds = excluded.timeout_seconds,
           deadline_seconds = excluded.deadline_seconds, run_at = excluded.run_at,
           created_at = excluded.created_at, updated_at = excluded.updated_at
     WHERE task.status = 'deleted' AND excluded.run = 0
    RETURNING *
), given AS (
    INSERT INTO soloist.input (task, json) SELECT number, :input FROM made
)
SELECT made.*, :input AS input
  FROM made
