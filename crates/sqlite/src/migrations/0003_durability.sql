-- What a node's commits wait for. Nodes of different kinds never live at one time: a viewer of a node that waits for the
-- disk must not be shown events that a power cut may take.
ALTER TABLE node ADD COLUMN relaxed INTEGER NOT NULL DEFAULT 0 CHECK (relaxed IN (0, 1));
