-- create: put a new task on record, pending.
-- called by  Store::create, before input.sql in the same transaction
-- guard      no task of that key is there
-- returns    the task's number; no row means that the key is taken
-- atomic     one statement
INSERT INTO task (app, model, id, owner, created_at, updated_at) VALUES (:app, :model, :id, :owner, :at, :at)
    ON CONFLICT (app, model, id) DO NOTHING
RETURNING number
