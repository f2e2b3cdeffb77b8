-- clear: remove some events of a deleted task.
-- called by  Store::tidy, before cleared.sql
-- guard      the task is deleted
-- returns    nothing
-- atomic     one statement, of a bounded number of batches; what another node clears away is passed by
DELETE FROM soloist.event_batch
 WHERE (task, last_seq) IN (SELECT task, last_seq
                              FROM soloist.event_batch
                             WHERE task = (SELECT min(task) FROM soloist.deleted)
                             ORDER BY last_seq
                             LIMIT :limit
                               FOR UPDATE SKIP LOCKED)
