-- ripen: make ready what waits in the queue and whose time has come; each keeps the place that it was queued at.
-- called by  Store::ripen
-- guard      its time has come by :at
-- returns    a row for each
-- atomic     one statement, of a bounded number of rows; what another node has locked is passed by, and the guard stands on
--            the row that is updated
WITH ripe AS (
    SELECT number
      FROM soloist.task
     WHERE due_at <= :at
     ORDER BY due_at
     LIMIT :limit
       FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE soloist.task
   SET due_at = NULL
  FROM ripe
 WHERE task.number = ripe.number AND due_at <= :at
RETURNING 1
