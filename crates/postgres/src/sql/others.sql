-- others: whether living nodes have another durability than one that joins.
-- called by  Store::join, after join.sql
-- guard      none; it only reads
-- returns    a row where there is one: it is not marked dead, and its lease is not over by the database's clock
-- atomic     one statement
SELECT 1
  FROM soloist.node
 WHERE NOT dead AND relaxed <> :relaxed AND id <> :node
   AND lease_until_us > coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
 LIMIT 1
