-- renew: let a node live for a whole lease from now.
-- called by  Heartbeat::renew
-- guard      it is not dead, and its lease is not over by the database's clock
-- returns    the node; no row means that it is dead for good
-- atomic     one statement; whoever buries the node compares the same columns, and who has waited for the row reads the
--            clock again
UPDATE soloist.node
   SET lease_until_us = lease_us + coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
 WHERE id = :node AND NOT dead
   AND lease_until_us > coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
RETURNING id
