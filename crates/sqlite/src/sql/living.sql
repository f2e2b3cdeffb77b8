-- living: nodes that are not marked dead, and what tells whether they are.
-- called by  Store::bury, to see whether there is anybody to bury
-- guard      none; it only reads, and bury.sql compares anew
-- returns    the nodes; :over is whether the lease is over by this clock
-- atomic     one statement
SELECT id, lock_device, lock_inode, boot_id <> :boot AS other_boot,
       boot_id <> :boot OR lease_until_ms <= :now OR lease_until_ms > :now + lease_ms AS over
  FROM node
 WHERE NOT dead
