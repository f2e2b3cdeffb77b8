-- list: records, newest first.
-- called by  Store::list, with a line for each part of the filter that is set in place of the one marked so
-- guard      none; it only reads
-- returns    the rows before a number, each with its own, up to the one that fills the page with bytes, and how many
--            there would have been
-- atomic     one statement; a page is one range of an index, and an insert never moves what is after its cursor
SELECT *
  FROM (SELECT page.*, count(*) OVER () AS found,
               sum(bytes) OVER (ORDER BY number DESC ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before
          FROM (SELECT task.*, input.json AS input,
                       octet_length(input.json) + coalesce(octet_length(final_value), 0) AS bytes
                  FROM soloist.task
                  JOIN soloist.input ON input.task = task.number
                 WHERE number < :before AND status <> 'deleted'
                   -- filter
                 ORDER BY number DESC
                 LIMIT :limit) AS page) AS page
 WHERE bytes_before < :max_bytes
 ORDER BY number DESC
