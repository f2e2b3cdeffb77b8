-- bury: mark a node dead.
-- called by  Store::bury
-- guard      not marked yet; its lock is free (:free), or it is of another boot, or (:lease) its lease is over, or ends too late
-- returns    the node; no row means that it lives, or that somebody else has buried it
-- atomic     one statement; death is a write, and renew.sql compares the same columns
UPDATE node
   SET dead = 1
 WHERE id = :node AND NOT dead
   AND (:free OR boot_id <> :boot
        OR (:lease AND (lease_until_ms <= :now OR lease_until_ms > :now + lease_ms)))
RETURNING id
