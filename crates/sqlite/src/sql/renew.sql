-- renew: let a node live for a whole lease from now.
-- called by  Heartbeat::renew
-- guard      it is not dead, and its lease is not over by the clock of this boot
-- returns    the node; no row means that it is dead for good
-- atomic     one statement; whoever buries the node compares the same columns
UPDATE node
   SET lease_until_ms = :now + lease_ms
 WHERE id = :node AND NOT dead AND boot_id = :boot
   AND lease_until_ms > :now AND lease_until_ms <= :now + lease_ms
RETURNING id
