-- delete: remove a task with its input, events and signals.
-- called by  Store::delete
-- guard      no run is active
-- returns    the task's number; no row means that it is active, or not there
-- atomic     one statement; what belongs to the task goes with its row
DELETE FROM task
 WHERE app = :app AND model = :model AND id = :id
   AND status NOT IN ('queued', 'running', 'cancelling')
RETURNING number
