-- signal: put a signal on record for the active run, or for the next run of a pending task.
-- called by  Store::signal
-- guard      the task is not finished, and the run keeps fewer than :max signals
-- returns    the run and the signal's number in it; no row means that the guard failed
-- atomic     one statement; numbers are dense, as all writes take turns
INSERT INTO signal (task, run, number, sent_at, name, data)
SELECT t.number, t.run, coalesce(max(s.number), 0) + 1, :at, :name, :data
  FROM (SELECT number, run + iif(status = 'pending', taken_back + 1, 0) AS run
          FROM task
         WHERE app = :app AND model = :model AND id = :id
           AND status IN ('pending', 'queued', 'running', 'cancelling')) AS t
  LEFT JOIN signal AS s ON s.task = t.number AND s.run = t.run
 GROUP BY t.number, t.run
HAVING coalesce(max(s.number), 0) < :max
RETURNING run, number
