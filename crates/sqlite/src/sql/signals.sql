-- signals: the signals of a run after a number.
-- called by  Store::signals
-- guard      none; it only reads
-- returns    the signals, in the order of their numbers
-- atomic     one statement: one range of the primary key
SELECT number, name, data
  FROM signal
 WHERE task = (SELECT number FROM task WHERE app = :app AND model = :model AND id = :id)
   AND run = :run AND number > :after
 ORDER BY number
 LIMIT :limit
