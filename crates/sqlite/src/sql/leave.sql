-- leave: mark a node dead by its own wish.
-- called by  Heartbeat::leave
-- guard      none
-- returns    nothing
-- atomic     one statement; death is a write
UPDATE node SET dead = 1 WHERE id = :node
