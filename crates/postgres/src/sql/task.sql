-- task: a task's record.
-- called by  Store::task, Store::create, Store::create_claimed
-- guard      none; it only reads
-- returns    the record; no row means no such task
-- atomic     one statement
SELECT task.*, input.json AS input
  FROM soloist.task
  JOIN soloist.input ON input.task = task.number
 WHERE app = :app AND model = :model AND id = :id AND status || '' <> 'deleted'
