-- want: note on an active task that one more run is to begin when the active one has ended.
-- called by  Store::claim, under a policy that asks for it, in the transaction of claim.sql
-- guard      a run is active, and nobody has asked for as much before
-- returns    the task's number; no row means that the guard failed
-- atomic     one statement
UPDATE task
   SET next_run = :wanted
 WHERE app = :app AND model = :model AND id = :id
   AND status IN ('queued', 'running', 'cancelling') AND next_run < :wanted
RETURNING number
