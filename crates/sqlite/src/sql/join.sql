-- join: make a node a living node.
-- called by  Store::join, before bury.sql in the same transaction
-- guard      none: ids are fresh with every start of a process
-- returns    nothing
-- atomic     one statement
INSERT INTO node (id, joined_at) VALUES (:node, :at)
    ON CONFLICT (id) DO UPDATE SET dead = 0, joined_at = excluded.joined_at
