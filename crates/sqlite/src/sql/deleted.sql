-- deleted: remember a deleted task whose events are still there.
-- called by  Store::delete, after delete.sql in the same transaction
-- guard      delete.sql removed the task; numbers are never used again
-- returns    nothing
-- atomic     one statement
INSERT INTO deleted (task) VALUES (:task)
