-- create_keyed: the same as create.sql under an idempotency key, which is kept with the task that it made.
-- called by  Store::create, where it brings an idempotency key that was not used and, where an id is named, no task of that
--            key is there; again while the id that it has assigned is taken
-- guard      that of create.sql, and the key was not used: where it was, the statement fails as a whole, by the key's own
--            index, and nothing is made
-- returns    the record; no row means that the name is taken, and nothing is kept
-- atomic     one statement; of two uses of one key at once the second waits for the first, and fails
WITH assigned AS (
    INSERT INTO soloist.model_id (app, model, last_id)
    SELECT :app, :model, 1 WHERE :id IS NULL
        ON CONFLICT (app, model) DO UPDATE SET last_id = model_id.last_id + 1
    RETURNING last_id::text AS id
), named AS (
    SELECT :id AS id WHERE :id IS NOT NULL UNION ALL SELECT id FROM assigned
), made AS (
    INSERT INTO soloist.task (app, model, id, owner, max_retries, timeout_seconds, deadline_seconds, run_at,
                              created_at, updated_at)
    SELECT :app, :model, named.id, :owner, :max_retries, :timeout_seconds, :deadline_seconds, :run_at, :at, :at FROM named
        ON CONFLICT (app, model, id) DO UPDATE
       SET number = nextval('soloist.task_number'), status = 'pending', deleted_at = NULL, attempt = 0,
           claim_id = NULL, run_start_seq = task.last_seq, signals = 0, retry_count = 0,
           node_losses = 0, store_losses = 0, next_run = 0, owner = excluded.owner, max_retries = excluded.max_retries,
           timeout_seconds = excluded.timeout_seconds, deadline_seconds = excluded.deadline_seconds,
           run_at = excluded.run_at,
           created_at = excluded.created_at, updated_at = excluded.updated_at
     WHERE task.status = 'deleted'
    RETURNING *
), given AS (
    INSERT INTO soloist.input (task, json) SELECT number, :input FROM made
), kept AS (
    INSERT INTO soloist.idempotency (subject, call, target, key, digest, task, name, started, run, used_at)
    SELECT :subject, :call, :target, :key, :digest, number, app || '/' || model || '/' || id, false, 0, :at FROM made
)
SELECT made.*, :input AS input
  FROM made
