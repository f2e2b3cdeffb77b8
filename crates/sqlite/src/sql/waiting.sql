-- waiting: what there is to do beside what runs.
-- called by  Store::waiting
-- guard      none; it only reads
-- returns    one row: whether runs are ready in the queue, when the next one is due, whether any run is owed
-- atomic     one statement; each part reads the first entry of its index
SELECT EXISTS (SELECT 1 FROM task INDEXED BY task_ready WHERE place IS NOT NULL AND due_at IS NULL) AS ready,
       (SELECT min(due_at) FROM task INDEXED BY task_due WHERE due_at IS NOT NULL) AS next_due,
       EXISTS (SELECT 1 FROM task INDEXED BY task_owed
                WHERE next_run > 0 AND status IN ('completed', 'failed', 'cancelled')
                  AND EXISTS (SELECT 1 FROM node_model AS served JOIN node ON node.id = served.node
                               WHERE served.app = task.app AND served.model = task.model AND NOT node.dead)) AS owed
