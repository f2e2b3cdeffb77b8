-- owed: finished tasks of which one more run is to begin, and that anybody serves.
-- called by  Store::owed
-- guard      none; it only reads, and the claim that begins the run compares the run that has ended
-- returns    the rows, oldest task first
-- atomic     one statement
SELECT app, model, id, run
  FROM soloist.task
 WHERE next_run > 0 AND status IN ('completed', 'failed', 'cancelled')
   AND EXISTS (SELECT 1 FROM soloist.node_model AS served JOIN soloist.node ON node.id = served.node
                WHERE served.app = task.app AND served.model = task.model AND NOT node.dead)
 ORDER BY number
 LIMIT :limit
