-- epoch: the epoch under which an event was written.
-- called by  Store::apply, to tell a batch that was sent again from one that is late
-- guard      none; it only reads
-- returns    the epoch; no row means that the log does not have that event
-- atomic     one statement
SELECT epoch FROM event WHERE task = :task AND seq = :seq
