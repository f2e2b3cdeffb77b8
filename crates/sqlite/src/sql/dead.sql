-- dead: dead nodes that hold nothing any more.
-- called by  Store::tidy
-- guard      none; it only reads
-- returns    their names
-- atomic     one statement
SELECT id FROM node WHERE dead AND NOT EXISTS (SELECT 1 FROM task WHERE task.node = node.id) LIMIT :limit
