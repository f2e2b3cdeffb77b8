-- ripen: make ready what waits in the queue and whose time has come; each keeps the place that it was queued at.
-- called by  Store::ripen
-- guard      its time has come by :at
-- returns    nothing; the number of rows tells whether there may be more
-- atomic     one statement, of a bounded number of rows
UPDATE task
   SET due_at = NULL
 WHERE number IN (SELECT number FROM task INDEXED BY task_due
                   WHERE due_at IS NOT NULL AND due_at <= :at ORDER BY due_at LIMIT :limit)
