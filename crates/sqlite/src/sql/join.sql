-- join: make a process a living node.
-- called by  Store::join, before serve.sql in the same transaction
-- guard      no living node has another durability; names are fresh, and the process's lock file is locked already
-- returns    the node; no row means that another durability is in use
-- atomic     one statement
INSERT INTO node (id, joined_at, boot_id, lease_ms, lease_until_ms, lock_device, lock_inode, relaxed)
SELECT :node, :at, :boot, :lease, :now + :lease, :device, :inode, :relaxed
 WHERE NOT EXISTS (SELECT 1 FROM node WHERE NOT dead AND relaxed <> :relaxed)
RETURNING id
