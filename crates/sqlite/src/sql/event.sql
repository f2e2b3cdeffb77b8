-- event: write one event at the place that the task's row has made for it.
-- called by  Store::apply, after append.sql, cancel.sql or finish.sql in the same transaction
-- guard      that statement matched; a place that is taken is a broken log and fails this write, never passed over
-- returns    nothing
-- atomic     one statement
INSERT INTO event (task, seq, run, epoch, timestamp, type, json, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
