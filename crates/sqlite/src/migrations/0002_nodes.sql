-- Several processes: a lease for each node, a queue, keys for requests that are sent again, and what deleted tasks leave.

-- A lease counts on the clock of the host's boot, in milliseconds; `inbox` rises with what others write for its runs.
ALTER TABLE node ADD COLUMN boot_id        TEXT    NOT NULL DEFAULT '';
ALTER TABLE node ADD COLUMN lease_ms       INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node ADD COLUMN lease_until_ms INTEGER NOT NULL DEFAULT 0;
-- The file that the node's process holds locked; its name follows from the node's.
ALTER TABLE node ADD COLUMN lock_device    INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node ADD COLUMN lock_inode     INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node ADD COLUMN inbox          INTEGER NOT NULL DEFAULT 0;
-- Version 1 was of one process at a time: whoever migrates the file has it alone.
UPDATE node SET dead = 1;

CREATE TABLE node_model (
    app   TEXT NOT NULL,
    model TEXT NOT NULL,
    node  TEXT NOT NULL,
    PRIMARY KEY (app, model, node)
) STRICT, WITHOUT ROWID;

DROP INDEX task_held;
CREATE INDEX task_held ON task (node, status) WHERE node IS NOT NULL;

-- The place in the queue, given in the transaction that queues.
ALTER TABLE task ADD COLUMN place INTEGER;
CREATE INDEX task_queued ON task (place) WHERE place IS NOT NULL;

-- From here a new task of a deleted key goes on.
CREATE TABLE tombstone (
    app        TEXT    NOT NULL,
    model      TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    run        INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL,
    deleted_at INTEGER NOT NULL,
    PRIMARY KEY (app, model, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstone_by_age ON tombstone (deleted_at);

-- Deleted tasks whose events are still to be cleared away.
CREATE TABLE deleted (
    task INTEGER PRIMARY KEY
) STRICT;

-- The log no longer goes with its task's row at once.
ALTER TABLE event RENAME TO event_1;
CREATE TABLE event (
    task      INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    run       INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    type      TEXT    NOT NULL,
    json      INTEGER NOT NULL CHECK (json IN (0, 1)),
    data      TEXT    NOT NULL,
    PRIMARY KEY (task, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO event SELECT task, seq, run, epoch, timestamp, type, json, data FROM event_1;
DROP TABLE event_1;

-- What the first use of a key was told. `target` is the task or the model that the call was for.
CREATE TABLE idempotency (
    subject TEXT    NOT NULL,
    call    TEXT    NOT NULL,
    target  TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    digest  TEXT    NOT NULL,
    task    INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    started INTEGER NOT NULL CHECK (started IN (0, 1)),
    run     INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (subject, call, target, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (used_at);
