-- notify: tell the node that holds a task that somebody has written for its run.
-- called by  Store::apply after cancel.sql, Store::signal after signal.sql, in the same transaction
-- guard      a node holds it
-- returns    nothing
-- atomic     one statement
UPDATE node SET inbox = inbox + 1
 WHERE id = (SELECT node FROM task WHERE app = :app AND model = :model AND id = :id)
