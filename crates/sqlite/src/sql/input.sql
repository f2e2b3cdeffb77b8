-- input: keep what a new task was given.
-- called by  Store::create, Store::create_claimed, after create.sql in the same transaction
-- guard      the task was created by that very transaction
-- returns    nothing
-- atomic     one statement
INSERT INTO input (task, json) VALUES (:task, :input)
