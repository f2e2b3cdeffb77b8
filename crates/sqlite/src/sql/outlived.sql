-- outlived: keys whose time is over, in the order in which they were used, and of each whether its task is gone.
-- called by  Store::tidy, before outlive.sql
-- guard      none; it only reads, and outlive.sql compares anew
-- returns    keys used before :before and after the one that is named
-- atomic     one statement: one range of an index, of a bounded number of rows
SELECT used_at, subject, call, target, key,
       NOT EXISTS (SELECT 1 FROM task WHERE task.number = idempotency.task) AS gone
  FROM idempotency INDEXED BY idempotency_by_age
 WHERE used_at < :before
   AND (used_at, subject, call, target, key) > (:used_at, :subject, :call, :target, :key)
 ORDER BY used_at, subject, call, target, key
 LIMIT :limit
