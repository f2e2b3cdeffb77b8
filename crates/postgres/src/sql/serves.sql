-- serves: what a model says of its runs, where a living node serves it.
-- called by  Store::serves
-- guard      none; it only reads
-- returns    what it says on one of those nodes; no row means that there is none
-- atomic     one statement
SELECT served.max_retries, served.timeout_seconds, served.deadline_seconds
  FROM soloist.node_model AS served
  JOIN soloist.node ON node.id = served.node
 WHERE served.app = :app AND served.model = :model AND NOT node.dead
 LIMIT 1
