-- expire: remove tombstones whose time is over.
-- called by  Store::tidy
-- guard      deleted before :before, and not created anew since
-- returns    a row for each
-- atomic     one statement, of a bounded number of rows; the guard stands on the row that is removed
DELETE FROM soloist.task
 WHERE number IN (SELECT number
                    FROM soloist.task
                   WHERE deleted_at < :before
                   ORDER BY deleted_at
                   LIMIT :limit
                     FOR UPDATE SKIP LOCKED)
   AND status = 'deleted' AND deleted_at < :before
RETURNING 1
