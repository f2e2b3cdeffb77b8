-- bury: mark those nodes dead whose lease is over.
-- called by  Store::bury
-- guard      not marked yet, and the lease is over by the database's clock
-- returns    the nodes; one that is not among them lives, or somebody else has buried it
-- atomic     one statement; death is a write, under the locks of the rows, taken in the order of their names, and
--            renew.sql compares the same columns
WITH over AS (
    SELECT id
      FROM soloist.node
     WHERE NOT dead
       AND lease_until_us <= coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
     ORDER BY id
       FOR NO KEY UPDATE
)
UPDATE soloist.node
   SET dead = true
  FROM over
 WHERE node.id = over.id AND NOT dead
   AND lease_until_us <= coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
RETURNING node.id
