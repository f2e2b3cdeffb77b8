-- expire: remove tombstones whose time is over.
-- called by  Store::tidy
-- guard      deleted before :before
-- returns    nothing
-- atomic     one statement, of a bounded number of rows
DELETE FROM tombstone
 WHERE (app, model, id) IN (SELECT app, model, id FROM tombstone WHERE deleted_at < :before LIMIT :limit)
