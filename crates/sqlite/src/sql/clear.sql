-- clear: remove some events of a deleted task.
-- called by  Store::tidy, before cleared.sql in the same transaction
-- guard      the task is deleted
-- returns    nothing
-- atomic     one statement, of a bounded number of rows
DELETE FROM event
 WHERE (task, seq) IN (SELECT task, seq FROM event WHERE task = (SELECT min(task) FROM deleted)
                        ORDER BY seq LIMIT :limit)
