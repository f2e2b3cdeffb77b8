-- renew: let a node live for a whole lease from now.
-- called by  Heartbeat::renew
-- guard      it is not dead, and its lease is not over by the database's clock
-- returns    the node; no row means that it is dead for good
-- atomic     one statement; whoever buries the node compares the same columns. One that has waited for the row compares,
--            and reads the clock, again where somebody has changed it; where nobody has, it goes by the moment at which it
--            began, so that the lease counts from then: shorter than a whole one, and never longer
UPDATE soloist.node
   SET lease_until_us = lease_us + coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
 WHERE id = :node AND NOT dead
   AND lease_until_us > coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
RETURNING id
