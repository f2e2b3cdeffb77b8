-- living: nodes whose lease is over, or ends later than it can.
-- called by  Store::bury, to see whether there is anything to write
-- guard      none; it only reads, and bury.sql and clamp.sql compare anew
-- returns    one row: whether there are nodes of the one and of the other kind
-- atomic     one statement
SELECT coalesce(bool_or(lease_until_us <= clock.now), false) AS over,
       coalesce(bool_or(lease_until_us > clock.now + lease_us), false) AS late
  FROM soloist.node,
       (SELECT coalesce(:now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) AS now) AS clock
 WHERE NOT dead
