-- retire: remove what nodes without a row have served.
-- called by  Store::tidy, after forget.sql in the same transaction
-- guard      the node has no row
-- returns    nothing
-- atomic     one statement
DELETE FROM node_model WHERE NOT EXISTS (SELECT 1 FROM node WHERE node.id = node_model.node)
