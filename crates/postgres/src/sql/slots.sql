-- slots: make the slots of some models whose runs are bounded over all nodes.
-- called by  Store::join; Store::claim and Store::claim_queued, where this process knows of fewer than their bound
-- guard      it is not there yet; one that is there is left as it is, taken or free
-- returns    nothing
-- atomic     one statement, in the order of the key, so that of two at once neither waits for what the other waits for; a
--            slot too many harms nobody: a claim counts up to its own bound
INSERT INTO soloist.model_slot (app, model, slot)
SELECT bounded.app, bounded.model, slot
  FROM (SELECT app, model, max(max_total) AS max_total
          FROM unnest(:apps, :models, :max_totals) AS bounded (app, model, max_total)
         GROUP BY app, model) AS bounded
 CROSS JOIN LATERAL generate_series(1, bounded.max_total) AS slot
 ORDER BY bounded.app, bounded.model, slot
    ON CONFLICT (app, model, slot) DO NOTHING
