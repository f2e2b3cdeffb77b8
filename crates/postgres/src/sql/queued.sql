-- queued: whether anything waits in the queue.
-- called by  Store::queued
-- guard      none; it only reads
-- returns    one row: whether
-- atomic     one statement
SELECT EXISTS (SELECT 1 FROM soloist.task WHERE place IS NOT NULL) AS queued
