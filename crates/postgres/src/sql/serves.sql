-- serves: whether a living node serves a model.
-- called by  Store::serves
-- guard      none; it only reads
-- returns    one row: whether
-- atomic     one statement
SELECT EXISTS (SELECT 1
                 FROM soloist.node_model AS served
                 JOIN soloist.node ON node.id = served.node
                WHERE served.app = :app AND served.model = :model AND NOT node.dead) AS serves
