-- events: a page of a task's log.
-- called by  Store::events
-- guard      none; it only reads
-- returns    the batches that hold the events of a range, in the order of seq, up to the one that fills the page with
--            bytes; the first may begin before the range, and the last end after it
-- atomic     one statement: one range of the primary key
SELECT first_seq, last_seq, run, epoch, events
  FROM (SELECT *, sum(inside) OVER (ORDER BY last_seq ROWS UNBOUNDED PRECEDING) - inside AS bytes_before
          FROM (SELECT *, CASE WHEN first_seq > :after THEN bytes ELSE 0 END AS inside
                  FROM soloist.event_batch
                 WHERE task = (SELECT number FROM soloist.task
                                WHERE app = :app AND model = :model AND id = :id
                                  AND status || '' <> 'deleted')
                   AND last_seq > :after AND first_seq <= :until
                 ORDER BY last_seq
                 LIMIT :limit) AS page) AS page
 WHERE bytes_before < :max_bytes
 ORDER BY last_seq
