-- revive: take the tombstone of a key away that has a task again.
-- called by  Store::create, Store::create_claimed, after create.sql in the same transaction
-- guard      create.sql inserted the task
-- returns    nothing
-- atomic     one statement
DELETE FROM tombstone WHERE app = :app AND model = :model AND id = :id
