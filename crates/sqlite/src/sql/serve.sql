-- serve: put a model on record that a node serves, with what it says of its runs.
-- called by  Store::join, after join.sql in the same transaction
-- guard      none
-- returns    nothing
-- atomic     one statement
INSERT INTO node_model (app, model, node, max_retries, timeout_seconds, deadline_seconds)
VALUES (:app, :model, :node, :max_retries, :timeout_seconds, :deadline_seconds)
    ON CONFLICT DO NOTHING
