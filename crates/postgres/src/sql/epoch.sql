-- epoch: the epochs under which some events were written.
-- called by  Store::apply, to tell a batch that was sent again from one that is late
-- guard      none; it only reads
-- returns    for each (task, seq) that the log has, its epoch
-- atomic     one statement: one row of the primary key for each
SELECT asked.task, asked.seq, batch.epoch
  FROM unnest(:tasks, :seqs) AS asked (task, seq)
 CROSS JOIN LATERAL (SELECT first_seq, epoch
                       FROM soloist.event_batch
                      WHERE event_batch.task = asked.task AND last_seq >= asked.seq
                      ORDER BY last_seq
                      LIMIT 1) AS batch
 WHERE batch.first_seq <= asked.seq
