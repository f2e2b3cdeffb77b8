-- delete: remove a task with its input and signals; its events are cleared away later, and nobody reads them.
-- called by  Store::delete, before entomb.sql and deleted.sql in the same transaction
-- guard      no run is active; where a run is named (:run), it is the last one and has ended
-- returns    what its tombstone keeps; no row means that it is active, another run is the last, or it is not there
-- atomic     one statement; what belongs to the task goes with its row
DELETE FROM task
 WHERE app = :app AND model = :model AND id = :id
   AND status NOT IN ('queued', 'running', 'cancelling')
   AND (:run IS NULL OR (run = :run AND status <> 'pending'))
RETURNING number, run, epoch, last_seq, taken_back + (next_run > 0) AS taken_back
