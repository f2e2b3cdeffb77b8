-- serve: put a model on record that a node serves.
-- called by  Store::join, after join.sql in the same transaction
-- guard      none
-- returns    nothing
-- atomic     one statement
INSERT INTO node_model (app, model, node) VALUES (:app, :model, :node) ON CONFLICT DO NOTHING
