-- signals: the signals of a run after a number.
-- called by  Store::signals
-- guard      none; it only reads; what a run that is over, or a cancel, may have left is not read: the task's row counts
--            the signals that are there
-- returns    the signals, in the order of their numbers
-- atomic     one statement: one range of the primary key
SELECT signal.number, signal.name, signal.data
  FROM soloist.task
  JOIN soloist.signal ON signal.task = task.number
 WHERE app = :app AND model = :model AND id = :id
   AND task.status || '' IN ('pending', 'queued', 'running', 'cancelling')
   AND signal.run = :run AND signal.number > :after AND signal.number <= task.signals
 ORDER BY signal.number
 LIMIT :limit
