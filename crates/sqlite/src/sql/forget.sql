-- forget: remove a dead node that holds nothing, so that the table does not grow with every start.
-- called by  Store::tidy, before retire.sql in the same transaction
-- guard      dead, and named by no task; a node without a row counts as dead everywhere
-- returns    nothing
-- atomic     one statement
DELETE FROM node
 WHERE id = :node AND dead AND NOT EXISTS (SELECT 1 FROM task WHERE task.node = node.id)
