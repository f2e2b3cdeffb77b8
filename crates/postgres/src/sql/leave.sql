-- leave: mark a node dead by its own wish.
-- called by  Heartbeat::leave
-- guard      none
-- returns    nothing
-- atomic     one statement; death is a write
UPDATE soloist.node SET dead = true WHERE id = :node
