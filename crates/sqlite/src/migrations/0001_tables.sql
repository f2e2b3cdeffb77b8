-- Times are whole microseconds since the Unix epoch, in UTC. JSON is TEXT, as it was sent.

-- One process that runs tasks. A node that is dead, or has no row, holds nothing: what names it is an orphan.
CREATE TABLE node (
    id        TEXT    NOT NULL PRIMARY KEY,
    joined_at INTEGER NOT NULL,
    dead      INTEGER NOT NULL DEFAULT 0 CHECK (dead IN (0, 1))
) STRICT, WITHOUT ROWID;

-- The newest id that was assigned to a task of a model.
CREATE TABLE model_id (
    app     TEXT    NOT NULL,
    model   TEXT    NOT NULL,
    last_id INTEGER NOT NULL,
    PRIMARY KEY (app, model)
) STRICT, WITHOUT ROWID;

-- The row of a task: every write for a run compares and sets it. `number` is the order of creation, never used again.
CREATE TABLE task (
    number              INTEGER PRIMARY KEY AUTOINCREMENT,
    app                 TEXT    NOT NULL,
    model               TEXT    NOT NULL,
    id                  TEXT    NOT NULL,
    status              TEXT    NOT NULL DEFAULT 'pending' CHECK (status IN
                        ('pending', 'queued', 'running', 'cancelling', 'completed', 'failed', 'cancelled')),
    run                 INTEGER NOT NULL DEFAULT 0,
    attempt             INTEGER NOT NULL DEFAULT 0,
    epoch               INTEGER NOT NULL DEFAULT 0,
    node                TEXT,
    last_seq            INTEGER NOT NULL DEFAULT 0,
    run_start_seq       INTEGER NOT NULL DEFAULT 0,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    started_at          INTEGER,
    completed_at        INTEGER,
    failed_at           INTEGER,
    cancelled_at        INTEGER,
    run_at              INTEGER,
    retry_count         INTEGER NOT NULL DEFAULT 0,
    max_retries         INTEGER NOT NULL DEFAULT 0,
    timeout_seconds     INTEGER,
    owner               TEXT,
    cancellation_reason TEXT,
    error_type          TEXT,
    error_message       TEXT,
    error_traceback     TEXT,
    final_value         TEXT,
    UNIQUE (app, model, id),
    CHECK ((node IS NOT NULL) = (status IN ('running', 'cancelling')))
) STRICT;

-- What a node holds; small however many tasks are on record.
CREATE INDEX task_held ON task (node) WHERE node IS NOT NULL;
-- A list by model or by status, newest first.
CREATE INDEX task_of_model ON task (app, model, number);
CREATE INDEX task_in_status ON task (status, number);

-- What a task was given; apart from its row, which every batch of events rewrites.
CREATE TABLE input (
    task INTEGER PRIMARY KEY REFERENCES task (number) ON DELETE CASCADE,
    json TEXT    NOT NULL
) STRICT;

-- The log: dense in `seq` per task, written once, read as ranges of its primary key.
CREATE TABLE event (
    task      INTEGER NOT NULL REFERENCES task (number) ON DELETE CASCADE,
    seq       INTEGER NOT NULL,
    run       INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    type      TEXT    NOT NULL,
    json      INTEGER NOT NULL CHECK (json IN (0, 1)),
    data      TEXT    NOT NULL,
    PRIMARY KEY (task, seq)
) STRICT, WITHOUT ROWID;

-- Messages for the active run of a task, or for the next run of a pending one; they go when that run is over.
CREATE TABLE signal (
    task    INTEGER NOT NULL REFERENCES task (number) ON DELETE CASCADE,
    run     INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    sent_at INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    data    TEXT    NOT NULL,
    PRIMARY KEY (task, run, number)
) STRICT, WITHOUT ROWID;
