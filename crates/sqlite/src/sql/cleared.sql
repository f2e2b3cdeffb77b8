-- cleared: forget a deleted task that has no events left.
-- called by  Store::tidy, after clear.sql in the same transaction
-- guard      it has none
-- returns    nothing
-- atomic     one statement
DELETE FROM deleted
 WHERE task = (SELECT min(task) FROM deleted)
   AND NOT EXISTS (SELECT 1 FROM event WHERE event.task = deleted.task)
