-- beside: whether another living node serves anything.
-- called by  Store::beside
-- guard      none; it only reads
-- returns    one row: whether
-- atomic     one statement
SELECT EXISTS (SELECT 1
                 FROM soloist.node_model AS served
                 JOIN soloist.node ON node.id = served.node
                WHERE node.id <> :node AND NOT node.dead) AS beside
