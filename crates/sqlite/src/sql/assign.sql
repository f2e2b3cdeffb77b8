-- assign: the next id of a model.
-- called by  Store::create, again while create.sql finds that id taken
-- guard      none; ids rise, skip what is taken, and may have gaps
-- returns    the id
-- atomic     one statement, in the transaction of create.sql
INSERT INTO model_id (app, model, last_id) VALUES (:app, :model, 1)
    ON CONFLICT (app, model) DO UPDATE SET last_id = last_id + 1
RETURNING last_id
