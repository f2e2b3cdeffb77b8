-- events: a page of a task's log.
-- called by  Store::events
-- guard      none; it only reads
-- returns    the events of a range, in the order of seq
-- atomic     one statement: one range of the primary key
SELECT seq, run, epoch, timestamp, type, json, data
  FROM event
 WHERE task = (SELECT number FROM task WHERE app = :app AND model = :model AND id = :id)
   AND seq > :after AND seq <= :until
 ORDER BY seq
 LIMIT :limit
