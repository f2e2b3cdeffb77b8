-- list: records, newest first.
-- called by  Store::list, with a line for each part of the filter that is set in place of the one marked so
-- guard      none; it only reads
-- returns    the rows before a number, each with its own
-- atomic     one statement; a page is one range of an index, and an insert never moves what is after its cursor
SELECT task.*, input.json AS input
  FROM task JOIN input ON input.task = task.number
 WHERE number < :before
   -- filter
 ORDER BY number DESC
 LIMIT :limit
