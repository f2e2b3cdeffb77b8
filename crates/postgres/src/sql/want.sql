-- want: note on an active task that one more run is to begin when the active one has ended.
-- called by  Store::claim, under a policy that asks for it, where it brings no idempotency key
-- guard      the run that the look before has seen (:run) is active, and nobody has asked for as much before
-- returns    the row; no row means that the guard failed
-- atomic     one statement; whoever ends that run compares nothing of this, and leaves it or takes it back under the same
--            lock
UPDATE soloist.task
   SET next_run = :wanted
 WHERE app = :app AND model = :model AND id = :id
   AND status || '' IN ('queued', 'running', 'cancelling') AND next_run < :wanted AND run = :run
RETURNING number, status, run, attempt, epoch, node, started_at, last_seq, cancellation_reason, retry_count, max_retries,
          node_losses, store_losses, next_run, taken_back
