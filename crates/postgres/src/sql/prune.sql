-- prune: remove finished tasks of a model that ended long ago, as delete.sql does it.
-- called by  Store::prune
-- guard      they ended so before :before, and no more run of them is to begin
-- returns    the keys and the numbers
-- atomic     one statement, of a bounded number of rows, oldest first; what somebody else has locked is passed by, and the
--            guard stands on the row that is updated
WITH old AS (
    SELECT number
      FROM soloist.task
     WHERE app = :app AND model = :model AND status = :status AND status IN ('completed', 'failed', 'cancelled')
       AND coalesce(completed_at, failed_at, cancelled_at) < :before AND next_run = 0
     ORDER BY coalesce(completed_at, failed_at, cancelled_at)
     LIMIT :limit
       FOR NO KEY UPDATE SKIP LOCKED
), gone AS (
    UPDATE soloist.task
       SET status = 'deleted', deleted_at = :at, claim_id = NULL, signals = 0, owner = NULL, started_at = NULL,
           completed_at = NULL, failed_at = NULL, cancelled_at = NULL, run_at = NULL, timeout_seconds = NULL,
           deadline_seconds = NULL, cancellation_reason = NULL, error_type = NULL, error_message = NULL,
           error_traceback = NULL, final_value = NULL, trace_parent = NULL, trace_state = NULL
      FROM old
     WHERE task.number = old.number AND task.status = :status AND next_run = 0
       AND coalesce(completed_at, failed_at, cancelled_at) < :before
    RETURNING task.number, app, model, id
), taken AS (
    DELETE FROM soloist.input USING gone WHERE input.task = gone.number
), silenced AS (
    DELETE FROM soloist.signal USING gone WHERE signal.task = gone.number
), remembered AS (
    INSERT INTO soloist.deleted (task) SELECT number FROM gone
)
SELECT number, app, model, id
  FROM gone
