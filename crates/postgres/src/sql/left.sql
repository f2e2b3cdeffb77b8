-- left: whether deleted tasks have left anything.
-- called by  Store::tidy
-- guard      none; it only reads
-- returns    one row: whether
-- atomic     one statement
SELECT EXISTS (SELECT 1 FROM soloist.deleted) AS anything
