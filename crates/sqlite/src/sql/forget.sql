-- forget: remove dead nodes that hold nothing any more, so that the table does not grow with every start.
-- called by  Store::join, after bury.sql in the same transaction
-- guard      dead, and named by no task; a node without a row counts as dead everywhere
-- returns    nothing
-- atomic     one statement
DELETE FROM node WHERE dead AND NOT EXISTS (SELECT 1 FROM task WHERE task.node = node.id)
