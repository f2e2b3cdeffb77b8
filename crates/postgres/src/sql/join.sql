-- join: make a process a living node, with the models that it serves.
-- called by  Store::join
-- guard      none: names are fresh with every start of a process; one that is sent again because its answer was lost
--            finds its own row, and leaves it as it is
-- returns    nothing
-- atomic     one statement
WITH joined AS (
    INSERT INTO soloist.node (id, joined_at, lease_us, lease_until_us)
    VALUES (:node, :at, :lease, :lease + coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint))
        ON CONFLICT (id) DO NOTHING
    RETURNING id
), told AS (
    INSERT INTO soloist.inbox (node) SELECT id FROM joined
)
INSERT INTO soloist.node_model (app, model, node)
SELECT DISTINCT served.app, served.model, joined.id
  FROM joined, unnest(:apps, :models) AS served (app, model)
