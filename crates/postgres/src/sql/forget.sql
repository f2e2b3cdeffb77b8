-- forget: remove dead nodes that hold nothing, so that the table does not grow with every start.
-- called by  Store::tidy
-- guard      dead, and named by no task; a node without a row counts as dead everywhere
-- returns    nothing
-- atomic     one statement, of a bounded number of rows; what a node has served and its inbox go with it
WITH gone AS (
    DELETE FROM soloist.node
     WHERE id IN (SELECT id
                    FROM soloist.node AS idle
                   WHERE dead AND NOT EXISTS (SELECT 1 FROM soloist.task WHERE task.node = idle.id)
                   LIMIT :limit
                     FOR UPDATE SKIP LOCKED)
    RETURNING id
), retired AS (
    DELETE FROM soloist.node_model USING gone WHERE node_model.node = gone.id
)
DELETE FROM soloist.inbox USING gone WHERE inbox.node = gone.id
