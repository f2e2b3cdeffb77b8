-- silence: remove the signals of a task whose run is over.
-- called by  Store::apply, after finish.sql in the same transaction
-- guard      finish.sql matched
-- returns    nothing
-- atomic     one statement
DELETE FROM signal WHERE task = :task
