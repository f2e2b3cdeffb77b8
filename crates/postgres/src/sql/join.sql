-- join: make a process a living node, with the models that it serves.
-- called by  Store::join, after slots.sql and before others.sql
-- guard      no living node has another durability; names are fresh with every start of a process; one that is sent again
--            because its answer was lost finds its own row, and leaves it as it is
-- returns    nothing
-- atomic     one statement; of two that join at once neither may see the other, so each looks again afterwards
WITH joined AS (
    INSERT INTO soloist.node (id, joined_at, lease_us, lease_until_us, relaxed)
    SELECT :node, :at, :lease, :lease + clock.now, :relaxed
      FROM (SELECT coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) AS now) AS clock
     WHERE NOT EXISTS (SELECT 1 FROM soloist.node AS other
                        WHERE NOT other.dead AND other.relaxed <> :relaxed AND other.lease_until_us > clock.now)
        ON CONFLICT (id) DO NOTHING
    RETURNING id
), told AS (
    INSERT INTO soloist.inbox (node) SELECT id FROM joined
)
INSERT INTO soloist.node_model (app, model, node, max_retries, timeout_seconds, deadline_seconds)
SELECT DISTINCT ON (served.app, served.model)
       served.app, served.model, joined.id, served.max_retries, served.timeout_seconds, served.deadline_seconds
  FROM joined,
       unnest(:apps, :models, :max_retries, :timeouts, :deadlines)
       AS served (app, model, max_retries, timeout_seconds, deadline_seconds)
