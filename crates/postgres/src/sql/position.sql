-- position: how many of its model stand before a task in the queue, and itself.
-- called by  Store::task, where the task waits
-- guard      none; it only reads
-- returns    one row: the number, at most :max; 0 where it does not stand in the queue, or waits for its time
-- atomic     one statement: one range of an index
WITH asked AS (
    SELECT place + 0 AS place
      FROM soloist.task
     WHERE app = :app AND model = :model AND id = :id AND status IS NOT DISTINCT FROM 'queued' AND due_at IS NULL
)
SELECT count(*) AS position
  FROM (SELECT 1
          FROM soloist.task
         WHERE app = :app AND model = :model AND place IS NOT NULL AND due_at IS NULL
           AND task.place + 0 <= (SELECT place FROM asked)
         LIMIT :max) AS standing
