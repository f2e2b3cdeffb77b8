-- join: make a process a living node.
-- called by  Store::join, before serve.sql in the same transaction
-- guard      none: names are fresh with every start of a process, and its lock file is locked already
-- returns    nothing
-- atomic     one statement
INSERT INTO node (id, joined_at, boot_id, lease_ms, lease_until_ms, lock_device, lock_inode)
VALUES (:node, :at, :boot, :lease, :now + :lease, :device, :inode)
