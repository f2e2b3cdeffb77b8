-- signal: put a signal on record for the active run, or for the next run of a pending task, and tell its holder.
-- called by  Store::signal
-- guard      the task is not finished, and the run keeps fewer than :max signals
-- returns    the run, the signal's number in it, the task's number and its holder; no row means that the guard failed
-- atomic     one statement; the number is counted on the task's own row, so numbers are dense and none is lost; what a
--            cancel in the same moment has left under that number (finish.sql) gives way
WITH sent AS (
    UPDATE soloist.task
       SET signals = signals + 1
     WHERE app = :app AND model = :model AND id = :id
       AND status || '' IN ('pending', 'queued', 'running', 'cancelling')
       AND signals < :max
    RETURNING number AS task, CASE WHEN status = 'pending' THEN run + taken_back + 1 ELSE run END AS run,
              signals AS number, node
), written AS (
    INSERT INTO soloist.signal (task, run, number, sent_at, name, data)
    SELECT task, run, number, :at, :name, :data FROM sent
        ON CONFLICT (task, run, number) DO UPDATE
       SET sent_at = excluded.sent_at, name = excluded.name, data = excluded.data
), told AS (
    UPDATE soloist.inbox SET count = inbox.count + 1 FROM sent WHERE inbox.node = sent.node
)
SELECT task, run, number, node
  FROM sent
