-- signals: the signals of a run after a number.
-- called by  Store::signals
-- guard      none; it only reads; what a run that is over may have left is not read
-- returns    the signals, in the order of their numbers
-- atomic     one statement: one range of the primary key
SELECT signal.number, signal.name, signal.data
  FROM soloist.task
  JOIN soloist.signal ON signal.task = task.number
 WHERE app = :app AND model = :model AND id = :id
   AND task.status IN ('pending', 'queued', 'running', 'cancelling')
   AND signal.run = :run AND signal.number > :after
 ORDER BY signal.number
 LIMIT :limit
