-- serves: what a model says of its runs, where a living node serves it.
-- called by  Store::serves
-- guard      none; it only reads
-- returns    the newest node's row; no row means that none serves it
-- atomic     one statement
SELECT served.max_retries, served.timeout_seconds, served.deadline_seconds
  FROM node_model AS served JOIN node ON node.id = served.node
 WHERE served.app = :app AND served.model = :model AND NOT node.dead
 ORDER BY node.joined_at DESC
 LIMIT 1
