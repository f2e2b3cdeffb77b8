-- prune: remove finished tasks of a model that ended long ago; their events are cleared away later, as in delete.sql.
-- called by  Store::prune, before entomb.sql and deleted.sql in the same transaction
-- guard      they ended so before :before, and no more run is to begin
-- returns    what the tombstone of each keeps
-- atomic     one statement, of a bounded number of rows
DELETE FROM task
 WHERE number IN (SELECT number FROM task INDEXED BY task_ended
                   WHERE app = :app AND model = :model AND status = :status
                     AND status IN ('completed', 'failed', 'cancelled')
                     AND coalesce(completed_at, failed_at, cancelled_at) < :before AND next_run = 0
                   ORDER BY coalesce(completed_at, failed_at, cancelled_at) LIMIT :limit)
RETURNING number, app, model, id, run, epoch, last_seq, taken_back
