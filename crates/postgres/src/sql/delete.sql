-- delete: remove a task with its input and signals, but for its key and its numbers; its events are cleared away later,
--            and nobody reads them.
-- called by  Store::delete
-- guard      no run is active; where a run is named (:run), it is the last one and has ended
-- returns    the task's number; no row means that it is active, another run is the last, or it is not there
-- atomic     one statement; its row stays as the tombstone of its key; a signal that is sent in the same moment may stay
--            behind under its number, which nobody has again, until cleared.sql
WITH gone AS (
    UPDATE soloist.task
       SET status = 'deleted', deleted_at = :at, claim_id = NULL, signals = 0, owner = NULL, started_at = NULL,
           completed_at = NULL, failed_at = NULL, cancelled_at = NULL, run_at = NULL, timeout_seconds = NULL,
           deadline_seconds = NULL, taken_back = taken_back + CASE WHEN next_run > 0 THEN 1 ELSE 0 END,
           next_run = 0, cancellation_reason = NULL, error_type = NULL, error_message = NULL,
           error_traceback = NULL, final_value = NULL, trace_parent = NULL, trace_state = NULL
     WHERE app = :app AND model = :model AND id = :id
       AND status || '' IN ('pending', 'completed', 'failed', 'cancelled')
       AND (:run IS NULL OR (run = :run AND status <> 'pending'))
    RETURNING number
), taken AS (
    DELETE FROM soloist.input USING gone WHERE input.task = gone.number
), silenced AS (
    DELETE FROM soloist.signal USING gone WHERE signal.task = gone.number
), remembered AS (
    INSERT INTO soloist.deleted (task) SELECT number FROM gone
)
SELECT number
  FROM gone
