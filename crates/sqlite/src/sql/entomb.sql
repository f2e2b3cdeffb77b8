-- entomb: keep what a new task of a deleted key goes on from.
-- called by  Store::delete, after delete.sql in the same transaction
-- guard      delete.sql removed the task
-- returns    nothing
-- atomic     one statement
INSERT INTO tombstone (app, model, id, run, epoch, last_seq, taken_back, deleted_at)
VALUES (:app, :model, :id, :run, :epoch, :last_seq, :taken_back, :at)
