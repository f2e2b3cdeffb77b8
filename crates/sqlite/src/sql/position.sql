-- position: how many of its model stand before a task in the queue, and itself.
-- called by  Store::task
-- guard      none; it only reads
-- returns    one row: the number, at most :max, and null where it does not stand in the queue
-- atomic     one statement: one range of an index
SELECT (SELECT count(*)
          FROM (SELECT 1 FROM task AS before INDEXED BY task_ready
                 WHERE before.app = task.app AND before.model = task.model
                   AND before.place <= task.place AND before.due_at IS NULL
                 LIMIT :max))
  FROM task
 WHERE number = :number AND place IS NOT NULL AND due_at IS NULL
