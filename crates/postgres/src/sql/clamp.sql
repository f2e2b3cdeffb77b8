-- clamp: give a node whose lease ends later than it can a whole lease from now, and no more.
-- called by  Store::bury, where the database's clock was set back
-- guard      not dead, and the lease ends later than one that begins now
-- returns    nothing
-- atomic     one statement, under the locks of the rows, taken in the order of their names; without it a node that died
--            would count as living for as long as the clock was set back
WITH late AS (
    SELECT id
      FROM soloist.node
     WHERE NOT dead
       AND lease_until_us > lease_us + coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
     ORDER BY id
       FOR NO KEY UPDATE
)
UPDATE soloist.node
   SET lease_until_us = lease_us + coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
  FROM late
 WHERE node.id = late.id AND NOT dead
   AND lease_until_us > lease_us + coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
