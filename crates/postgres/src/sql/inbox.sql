-- inbox: how much others have written for the runs of a node.
-- called by  Store::inbox
-- guard      none; it only reads
-- returns    the number; no row means that there is no such node
-- atomic     one statement
SELECT count FROM soloist.inbox WHERE node = :node
