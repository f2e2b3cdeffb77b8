-- bury: mark every other node dead, so that what it held can be found and ended.
-- called by  Store::join, after join.sql in the same transaction
-- guard      this process alone has the file (the lock beside it), so every other node's process is gone
-- returns    nothing
-- atomic     one statement; death is a write, and claim.sql compares it
UPDATE node SET dead = 1 WHERE id <> :node AND NOT dead
