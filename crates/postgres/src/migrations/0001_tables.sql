-- Times are whole microseconds since the Unix epoch, in UTC. JSON is text, as it was sent. Text that may hold a NUL, which
-- PostgreSQL's cannot, is stored as `text.rs` says.

-- One process that runs tasks. A node that is dead, or has no row, holds nothing: what names it is an orphan.
CREATE TABLE soloist.node (
    id             text    NOT NULL PRIMARY KEY,
    joined_at      bigint  NOT NULL,
    lease_us       bigint  NOT NULL,
    -- By the clock of the database.
    lease_until_us bigint  NOT NULL,
    dead           boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

-- What others have written for the runs of a node. Apart from its row, so that nobody waits for a heartbeat.
CREATE TABLE soloist.inbox (
    node  text   NOT NULL PRIMARY KEY,
    count bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE soloist.node_model (
    app   text NOT NULL,
    model text NOT NULL,
    node  text NOT NULL,
    PRIMARY KEY (app, model, node)
);
CREATE INDEX node_model_of_node ON soloist.node_model (node);

-- The newest id that was assigned to a task of a model.
CREATE TABLE soloist.model_id (
    app     text   NOT NULL,
    model   text   NOT NULL,
    last_id bigint NOT NULL,
    PRIMARY KEY (app, model)
) WITH (fillfactor = 50);

-- The order of creation; a number is never used again.
CREATE SEQUENCE soloist.task_number;
-- The order of the queue.
CREATE SEQUENCE soloist.queue_place;

-- The row of a task: every write for a run compares and sets it. A batch of events changes `last_seq` alone, which no
-- index holds, and there is room on the page: so it is an update in place (HOT).
--
-- A deleted task leaves its row, with the status 'deleted', as the tombstone of its key. So whoever creates a task of that
-- key anew meets the numbers that it goes on from under the lock of that very row, at every isolation level.
CREATE TABLE soloist.task (
    number              bigint  NOT NULL PRIMARY KEY DEFAULT nextval('soloist.task_number'),
    app                 text    NOT NULL,
    model               text    NOT NULL,
    id                  text    NOT NULL,
    status              text    NOT NULL DEFAULT 'pending' CHECK (status IN
                        ('pending', 'queued', 'running', 'cancelling', 'completed', 'failed', 'cancelled', 'deleted')),
    run                 bigint  NOT NULL DEFAULT 0,
    attempt             integer NOT NULL DEFAULT 0,
    epoch               bigint  NOT NULL DEFAULT 0,
    node                text,
    -- Drawn by whoever claimed it last, to find out what became of a claim whose answer was lost.
    claim_id            bigint,
    last_seq            bigint  NOT NULL DEFAULT 0,
    run_start_seq       bigint  NOT NULL DEFAULT 0,
    -- Signals of the active run, or of the next one of a pending task.
    signals             bigint  NOT NULL DEFAULT 0,
    created_at          bigint  NOT NULL,
    updated_at          bigint  NOT NULL,
    started_at          bigint,
    completed_at        bigint,
    failed_at           bigint,
    cancelled_at        bigint,
    deleted_at          bigint,
    run_at              bigint,
    -- In the queue: rises with every run that is queued.
    place               bigint,
    retry_count         integer NOT NULL DEFAULT 0,
    max_retries         integer NOT NULL DEFAULT 0,
    timeout_seconds     integer,
    owner               text,
    cancellation_reason text,
    error_type          text,
    error_message       text,
    error_traceback     text,
    final_value         text,
    UNIQUE (app, model, id),
    CHECK ((node IS NOT NULL) = (status IN ('running', 'cancelling'))),
    CHECK ((place IS NOT NULL) = (status = 'queued')),
    CHECK ((deleted_at IS NOT NULL) = (status = 'deleted'))
) WITH (fillfactor = 70);

-- What a node holds; small however many tasks are on record.
CREATE INDEX task_held ON soloist.task (node, status) WHERE node IS NOT NULL;
CREATE INDEX task_queued ON soloist.task (place) WHERE place IS NOT NULL;
-- A list: of all, by model, by status, by owner; newest first.
CREATE INDEX task_listed ON soloist.task (number) WHERE status <> 'deleted';
CREATE INDEX task_of_model ON soloist.task (app, model, number) WHERE status <> 'deleted';
CREATE INDEX task_in_status ON soloist.task (status, number) WHERE status <> 'deleted';
CREATE INDEX task_of_owner ON soloist.task (owner, number) WHERE owner IS NOT NULL AND status <> 'deleted';
CREATE INDEX task_tombstone ON soloist.task (deleted_at) WHERE deleted_at IS NOT NULL;

-- What a task was given; apart from its row, which every batch of events rewrites.
CREATE TABLE soloist.input (
    task bigint NOT NULL PRIMARY KEY,
    json text   NOT NULL
);

-- The log: a row for each batch that was committed, at most a page of events in each. Dense in seq per task, written once,
-- read as ranges of the primary key.
CREATE TABLE soloist.event_batch (
    task      bigint  NOT NULL,
    first_seq bigint  NOT NULL,
    last_seq  bigint  NOT NULL,
    run       bigint  NOT NULL,
    epoch     bigint  NOT NULL,
    -- Of the data of its events.
    bytes     integer NOT NULL,
    -- As `log.rs` writes them.
    events    text    NOT NULL,
    PRIMARY KEY (task, last_seq),
    CHECK (first_seq <= last_seq)
);

-- Deleted tasks whose events are still to be cleared away.
CREATE TABLE soloist.deleted (
    task bigint NOT NULL PRIMARY KEY
);

-- Messages for the active run of a task, or for the next run of a pending one; they go when that run is over.
CREATE TABLE soloist.signal (
    task    bigint NOT NULL,
    run     bigint NOT NULL,
    number  bigint NOT NULL,
    sent_at bigint NOT NULL,
    name    text   NOT NULL,
    data    text   NOT NULL,
    PRIMARY KEY (task, run, number)
);

-- What the first use of a key was told. `target` is the task or the model that the call was for.
CREATE TABLE soloist.idempotency (
    subject text    NOT NULL,
    call    text    NOT NULL,
    target  text    NOT NULL,
    key     text    NOT NULL,
    digest  text    NOT NULL,
    task    bigint  NOT NULL,
    name    text    NOT NULL,
    started boolean NOT NULL,
    run     bigint  NOT NULL,
    used_at bigint  NOT NULL,
    PRIMARY KEY (subject, call, target, key)
);
CREATE INDEX idempotency_by_age ON soloist.idempotency (used_at);
