//! Every bound of the product, in one place, each with its unit in its name.
//!
//! Decides: how much of anything one task, one event or one process may take. Nothing outside this file defines
//! a bound; other crates import theirs from here, so that "what limits exist?" has one answer.

use std::time::Duration;

/// Longest `app` or `model`, in bytes.
pub const NAME_MAX_BYTES: usize = 64;
/// Longest task `id`, in bytes.
pub const ID_MAX_BYTES: usize = 128;
/// Longest input of a task, in bytes of JSON text.
pub const INPUT_MAX_BYTES: usize = 1 << 20;
/// Longest request body that the HTTP API reads: an input, and room for the options around it.
pub const BODY_MAX_BYTES: usize = INPUT_MAX_BYTES + (16 << 10);
/// Deepest nesting of arrays and objects in JSON that is taken in.
pub const JSON_MAX_DEPTH: usize = 120;
/// Longest event type, in bytes.
pub const EVENT_TYPE_MAX_BYTES: usize = 128;
/// Longest data of one event, in bytes.
pub const EVENT_DATA_MAX_BYTES: usize = 1 << 20;
/// Longest final value of a run, in bytes of JSON text.
pub const FINAL_VALUE_MAX_BYTES: usize = 1 << 20;
/// Longest error message that is kept, in bytes; more is cut and marked.
pub const MESSAGE_MAX_BYTES: usize = 8 << 10;
/// Longest traceback that is kept, in bytes; more is cut and marked.
pub const TRACEBACK_MAX_BYTES: usize = 64 << 10;
/// Longest reason of a cancel, in bytes.
pub const REASON_MAX_BYTES: usize = 1 << 10;
/// Longest owner, in bytes.
pub const OWNER_MAX_BYTES: usize = 256;
/// Longest `traceparent` of a start, in bytes; those of today have 55.
pub const TRACE_PARENT_MAX_BYTES: usize = 512;
/// Longest `tracestate` of a start, in bytes; a longer one is left out.
pub const TRACE_STATE_MAX_BYTES: usize = 512;
/// Longest name of a signal, in bytes.
pub const SIGNAL_NAME_MAX_BYTES: usize = 64;
/// Longest data of one signal, in bytes of JSON text.
pub const SIGNAL_DATA_MAX_BYTES: usize = 64 << 10;
/// Most signals that one run keeps.
pub const SIGNALS_MAX_PER_RUN: u64 = 10_000;

/// Events that may wait between the work and the store; beyond them `send_event` waits.
pub const PIPELINE_MAX_EVENTS: usize = 4_096;
/// Bytes of event data that may wait between the work and the store; beyond them `send_event` waits.
pub const PIPELINE_MAX_BYTES: usize = 1 << 20;
/// Events of one task that are kept in memory for viewers near the tail.
pub const WINDOW_MAX_EVENTS: usize = 8_192;
/// Bytes that the newest events of one task and their frames may hold in memory, for viewers near the tail; the newest
/// batch stays whatever its size.
pub const WINDOW_MAX_BYTES: usize = 4 << 20;
/// The same where a task has no viewer.
pub const WINDOW_UNWATCHED_MAX_BYTES: usize = 256 << 10;
/// Events in one page that is read from the store.
pub const PAGE_MAX_EVENTS: usize = 1_000;
/// Bytes of event data in one page that is read from the store (a page always holds at least one event).
pub const PAGE_MAX_BYTES: usize = 64 << 10;
/// Most bytes of pages that are kept of one task's log while several viewers behind the window read it.
pub const PAGES_SHARED_MAX_BYTES: usize = 1 << 20;
/// Events in one page where the caller names no limit.
pub const PAGE_DEFAULT_EVENTS: usize = 100;
/// Tasks in one page of a list.
pub const LIST_MAX_TASKS: usize = 1_000;
/// Tasks in one page of a list where the caller names no limit.
pub const LIST_DEFAULT_TASKS: usize = 50;
/// Bytes of inputs and final values in one page of a list (a page always holds at least one task where there is one).
pub const LIST_MAX_BYTES: usize = 8 << 20;

/// Runs of one native model at a time in one process, by default.
pub const NATIVE_MAX_CONCURRENT: usize = 10_000;
/// Runs of one exec model at a time in one process, by default.
pub const EXEC_MAX_CONCURRENT: usize = 64;

/// Runs of one http model at a time in one process, by default.
pub const HTTP_MAX_CONCURRENT: usize = 1_000;

/// How long a node lives without renewing its lease, by default.
pub const LEASE: Duration = Duration::from_secs(10);
/// Shortest lease that a configuration may ask for.
pub const LEASE_MIN_SECONDS: u64 = 1;
/// Longest lease that a configuration may ask for.
pub const LEASE_MAX_SECONDS: u64 = 60 * 60;
/// Part of a lease after which it is renewed, in percent.
pub const LEASE_RENEW_PERCENT: u32 = 30;
/// Part of a lease without renewal after which nothing is answered from memory and work is asked to stop, in percent.
pub const LEASE_STOP_PERCENT: u32 = 60;
/// Part of a lease without renewal after which work is ended or dropped, in percent.
pub const LEASE_DROP_PERCENT: u32 = 80;
/// Part of a lease without renewal after which the process ends where its work has not let go, in percent.
pub const LEASE_ABORT_PERCENT: u32 = 90;
/// Part of a lease after which a renewal that the store could not take is tried again, in percent.
pub const LEASE_RETRY_PERCENT: u32 = 5;
/// Longest wait before a node looks at its lease again.
pub const LEASE_LOOK: Duration = Duration::from_millis(200);
/// How often a node looks for dead ones.
pub const SWEEP_EVERY: Duration = Duration::from_millis(300);
/// Shortest time between two looks at what others have written.
pub const FOLLOW_EVERY: Duration = Duration::from_millis(5);
/// How often a node looks at what others have written without having been told that there is anything.
pub const FOLLOW_ANYWAY: Duration = Duration::from_secs(1);
/// Wait before a node that lost its lease asks again to be taken in, where it was not.
pub const REJOIN_EVERY: Duration = Duration::from_millis(500);
/// Part of a lease that a look for dead nodes may take, in percent; a later answer tells of a store that was away.
pub const SWEEP_LATE_PERCENT: u32 = 10;
/// How often a node clears away what is of no use on record.
pub const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Rows that are cleared away in one step.
pub const TIDY_MAX_ROWS: usize = 2_000;
/// Wait between two such steps, so that others write in between.
pub const TIDY_PAUSE: Duration = Duration::from_millis(10);
/// How long a deleted key keeps its tombstone.
pub const TOMBSTONE_KEPT: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_MAX_BYTES: usize = 255;
/// How long an idempotency key is kept at least; it also stays as long as its task.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a process looks through all keys that are older, to find those whose task is gone.
pub const IDEMPOTENCY_LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
/// Most retries that a task may ask for.
pub const RETRIES_MAX: u32 = 1_000;
/// Wait before the first retry of a run, by default; it doubles with each.
pub const RETRY_DELAY: Duration = Duration::from_secs(2);
/// Longest wait before a retry.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(5 * 60);
/// Longest wait before a retry that the work itself may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// How far a wait before a retry is from its mean, at the most, in percent: so that what failed together does not come back
/// together.
pub const RETRY_JITTER_PERCENT: u32 = 20;
/// Longest timeout of an attempt, and longest deadline of a run, in seconds.
pub const RUN_MAX_SECONDS: u32 = 366 * 24 * 60 * 60;
/// Runs in the queue whose time has come and that are made ready in one step.
pub const RIPEN_MAX_RUNS: usize = 1_000;
/// Position in the queue beyond which none is told.
pub const POSITION_MAX: usize = 100_000;
/// Most runs of one model over all processes that a configuration may allow.
pub const CONCURRENT_TOTAL_MAX: u32 = 10_000;
/// How long a finished task is kept, by default.
pub const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Longest that a configuration may have finished tasks kept, unless it is for ever.
pub const RETENTION_MAX: Duration = Duration::from_secs(36_500 * 24 * 60 * 60);
/// Tasks that are pruned in one step.
pub const PRUNE_MAX_TASKS: usize = 100;
/// Pages that an SQLite file gives back to the file system in one step.
pub const SQLITE_VACUUM_PAGES: usize = 256;

/// How long a finished run stays in memory for late viewers, by default.
pub const LINGER: Duration = Duration::from_secs(60);
/// Tasks whose finished runs stay in memory at a time; beyond them the oldest goes before its linger is over.
pub const LINGER_MAX_TASKS: usize = 10_000;
/// Bytes that finished runs may hold in memory; beyond them the oldest goes before its linger is over.
pub const LINGER_MAX_BYTES: usize = 64 << 20;
/// How long work that was asked to stop may take before it is dropped.
pub const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// How long dropped work may take to let go of its thread before it counts as stuck.
pub const DROP_WAIT: Duration = Duration::from_secs(1);
/// How long a shutdown waits, after its grace, for the endings of what it gave up to be on record.
pub const GIVE_UP_WAIT: Duration = Duration::from_secs(5);
/// How long a shutdown waits for running work, by default.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);
/// Longest that a caller may wait for the end of a cancelled run over HTTP.
pub const CANCEL_WAIT_MAX: Duration = Duration::from_secs(60);
/// Longest that a caller may wait for the next page of a task's log over HTTP.
pub const EVENTS_WAIT_MAX: Duration = Duration::from_secs(60);
/// First wait before a write that the store could not take is sent again; it doubles.
pub const STORE_RETRY_MIN: Duration = Duration::from_millis(20);
/// Longest wait before a write that the store could not take is sent again.
pub const STORE_RETRY_MAX: Duration = Duration::from_secs(1);

/// Writes that may wait for the one writer of an SQLite file; beyond them their callers wait.
pub const SQLITE_QUEUE_MAX_REQUESTS: usize = 1_024;
/// Writes that share one commit.
pub const SQLITE_GROUP_MAX_REQUESTS: usize = 512;
/// Bytes of event data after which a group of writes takes in no further one.
pub const SQLITE_GROUP_MAX_BYTES: usize = 4 << 20;
/// How long one group of writes may hold an SQLite file; what still waits then goes into the next.
pub const SQLITE_GROUP_MAX_TIME: Duration = Duration::from_millis(5);
/// How long a process waits for others that open, or upgrade, an SQLite file at the same moment.
pub const SQLITE_OPEN_WAIT: Duration = Duration::from_secs(20);
/// Longest wait for a turn to write to an SQLite file; a process that was stopped in its turn holds the others up no longer.
pub const SQLITE_TURN_MAX: Duration = Duration::from_secs(5);
/// How long the renewal of a lease waits for SQLite's own lock.
pub const SQLITE_BEAT_TIMEOUT: Duration = Duration::from_secs(1);
/// Wait between two looks for commits of others while there are some.
pub const SQLITE_WATCH_OFTEN: Duration = Duration::from_millis(3);
/// Wait between two looks for commits of others while there are none.
pub const SQLITE_WATCH_SELDOM: Duration = Duration::from_millis(20);
/// How long after a commit of somebody it is looked for others often.
pub const SQLITE_WATCH_BUSY: Duration = Duration::from_millis(200);
/// Threads that read an SQLite file, each with a connection of its own.
pub const SQLITE_READERS: usize = 4;
/// Tasks that a process remembers to have created and not started.
pub const SQLITE_FRESH_MAX_TASKS: usize = 64;
/// Reads that may wait for those threads; beyond them their callers wait.
pub const SQLITE_READS_MAX_WAITING: usize = 256;
/// Memory that each connection which reads may use for pages of an SQLite file.
pub const SQLITE_CACHE_MAX_BYTES: usize = 256 << 10;
/// The same for the connection that writes: the inner pages of all tables and indices, and those that the newest tasks are
/// on, so that a commit reads nothing back.
pub const SQLITE_WRITER_CACHE_MAX_BYTES: usize = 8 << 20;
/// Size to which the write-ahead log of an SQLite file is cut back after a burst.
pub const SQLITE_WAL_KEPT_BYTES: usize = 64 << 20;
/// Size at which the write-ahead log of an SQLite file is first copied into the file.
pub const SQLITE_CHECKPOINT_BYTES: usize = 16 << 20;
/// How long a connection waits for another program (a backup, the `sqlite3` shell) to let go of an SQLite file.
pub const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages of an SQLite file that a backup copies between two reports of how far it is.
pub const SQLITE_BACKUP_STEP_PAGES: i32 = 512;
/// Wait of a backup before it tries again what a writer keeps locked.
pub const SQLITE_BACKUP_LOOK: Duration = Duration::from_micros(300);

/// Connections to PostgreSQL on which one process reads, at the most.
pub const POSTGRES_READERS: usize = 4;
/// Statements at a time in which creates of one kind, claims, or looks at rows go to PostgreSQL together.
pub const POSTGRES_GATHER_LANES: usize = 2;
/// Creates, claims, or looks at rows, that go to PostgreSQL in one statement, at the most.
pub const POSTGRES_GATHER_MAX_REQUESTS: usize = 256;
/// Connections to PostgreSQL on which one process creates, claims and deletes, at the most.
pub const POSTGRES_WRITERS: usize = 6;
/// Longest wait until a statement of PostgreSQL that is waited for no more is given up there, too; its connection counts
/// until then.
pub const POSTGRES_GIVE_UP_MAX: Duration = Duration::from_secs(5);
/// Longest time that a look for dead nodes in PostgreSQL may take before it counts as failed.
pub const POSTGRES_LOOK_MAX: Duration = Duration::from_secs(1);
/// Requests that may wait for a connection to PostgreSQL; beyond them they are refused.
pub const POSTGRES_WAITING_MAX: usize = 4_096;
/// Longest wait for a free connection to PostgreSQL.
pub const POSTGRES_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest wait for a new connection to PostgreSQL, with all that it says before it can be used.
pub const POSTGRES_CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest wait for an answer of PostgreSQL; the connection is given up then.
pub const POSTGRES_REQUEST_MAX: Duration = Duration::from_secs(10);
/// Longest wait until the tables in PostgreSQL are up to date, where this node or another one brings them there.
pub const POSTGRES_MIGRATE_MAX: Duration = Duration::from_secs(120);
/// How long what was sent to PostgreSQL may stay unacknowledged before the connection counts as broken.
pub const POSTGRES_TCP_MAX: Duration = Duration::from_secs(10);
/// First wait before a PostgreSQL that cannot be reached is tried again; it doubles.
pub const POSTGRES_AWAY_MIN: Duration = Duration::from_millis(50);
/// Longest wait before a PostgreSQL that cannot be reached is tried again.
pub const POSTGRES_AWAY_MAX: Duration = Duration::from_secs(1);
/// First wait before a statement that met another one is carried out again; it doubles, with jitter.
pub const POSTGRES_AGAIN_MIN: Duration = Duration::from_millis(1);
/// Longest wait before a statement that met another one is carried out again.
pub const POSTGRES_AGAIN_MAX: Duration = Duration::from_millis(64);
/// How long a statement that meets others again and again is carried out again.
pub const POSTGRES_CONFLICT_MAX: Duration = Duration::from_secs(20);
/// How often a value that must not be there twice may be met before it counts as a defect.
pub const POSTGRES_DOUBLES_MAX: u32 = 16;
/// How often a group of writes to PostgreSQL that meets others is carried out again as a whole before it is split.
pub const POSTGRES_GROUP_CONFLICTS_MAX: u32 = 2;
/// The same where it meets a value that must not be there twice; a write alone then counts as a defect.
pub const POSTGRES_GROUP_DOUBLES_MAX: u32 = 2;
/// How long a store goes on to find out what became of a write whose answer was lost.
pub const POSTGRES_RESOLVE_MAX: Duration = Duration::from_secs(5);
/// Writes that may wait for the group commit of PostgreSQL; beyond them their callers wait.
pub const POSTGRES_QUEUE_MAX_REQUESTS: usize = 1_024;
/// Writes that share one statement.
pub const POSTGRES_GROUP_MAX_REQUESTS: usize = 512;
/// Bytes of event data after which a group of writes takes in no further one.
pub const POSTGRES_GROUP_MAX_BYTES: usize = 4 << 20;
/// Shortest time between two wake-ups that one process sends to the others.
pub const POSTGRES_NOTIFY_EVERY: Duration = Duration::from_millis(2);
/// Longest wake-up, in bytes; PostgreSQL takes no more than 8,000.
pub const POSTGRES_NOTIFY_MAX_BYTES: usize = 7_900;
/// How long a process hears of a task after it has last read its row.
pub const POSTGRES_VIEWED: Duration = Duration::from_secs(10);
/// How often the connection on which wake-ups come is asked whether it still is one.
pub const POSTGRES_LISTEN_CHECK: Duration = Duration::from_secs(5);
/// Batches of events that are cleared away in one step.
pub const POSTGRES_TIDY_MAX_BATCHES: usize = 200;
/// Longest time, in percent of a lease, that one renewal in PostgreSQL may take before it counts as failed.
pub const POSTGRES_BEAT_PERCENT: u32 = 10;
/// Attempts to connect that one heartbeat has under way at a time, at the most.
pub const POSTGRES_BEAT_CONNECTS: usize = 3;
/// Longest wait until a node that leaves has said so.
pub const POSTGRES_LEAVE_MAX: Duration = Duration::from_secs(3);
/// Runs at the head of the queue in PostgreSQL of which a node looks for one that nobody else has locked, at first.
pub const POSTGRES_QUEUE_HEADS_MIN: usize = 32;
/// The same, where others have those locked again and again.
pub const POSTGRES_QUEUE_HEADS_MAX: usize = 8_192;
/// Longest name of a schema in PostgreSQL, in bytes.
pub const POSTGRES_SCHEMA_MAX_BYTES: usize = 63;

/// Bytes that a connection reads ahead and may have waiting to be written, beside the one chunk that is under way.
pub const CONNECTION_BUFFER_BYTES: usize = 64 << 10;
/// Bytes of frames from which on no more are gathered for one write to a viewer.
pub const VIEWER_WRITE_BYTES: usize = 64 << 10;
/// Most batches that one write to a viewer gathers.
pub const VIEWER_WRITE_PARTS: usize = 64;
/// Bytes after which other viewers have their turn.
pub const VIEWER_SHARE_BYTES: usize = 256 << 10;
/// Reads of 512 bytes, at the most, of what a client says after its request while others wait.
pub const VIEWER_TALK_READS: usize = 64;
/// Longest time between two looks for viewers that were silent too long.
pub const VIEWER_LOOK: Duration = Duration::from_secs(1);
/// Silence on a stream after which a heartbeat comment is sent.
pub const SSE_HEARTBEAT: Duration = Duration::from_secs(15);
/// Reconnection time that a stream tells its client first.
pub const SSE_RETRY_MS: u64 = 2_000;
/// Shortest reconnection time that a stream tells a client which it cannot serve now; up to twice as long at random,
/// so that clients which were sent away together do not come back together.
pub const SSE_COME_BACK_MS: u64 = 2_000;
/// How long the store may take to answer a server that is asked whether it is ready.
pub const READY_WAIT: Duration = Duration::from_secs(2);
/// Seconds that a client which cannot be served now is told to wait (`Retry-After`).
pub const RETRY_AFTER_SECONDS: u64 = 2;
/// How long a client may take to send the head of a request, and again to send its body.
pub const REQUEST_READ_MAX: Duration = Duration::from_secs(30);
/// Most bytes of an over-long body that are read and dropped, so that its sender reads why it was refused.
pub const BODY_DISCARD_MAX_BYTES: usize = 16 << 20;
/// How long what is left of the body of a refused request is read and dropped, so that its connection can be used again.
pub const BODY_REST_WAIT: Duration = Duration::from_secs(1);
/// How long a server that was told to stop waits for the requests under way.
pub const STOP_WAIT_MAX: Duration = Duration::from_secs(10);

/// Soft limit of open descriptors that an exec command begins with, at the most; the hard limit is the server's.
pub const EXEC_DESCRIPTORS: u64 = 1_024;
/// Longest line of an exec command that becomes one event, in bytes; the rest of it is cut and marked.
pub const EXEC_LINE_MAX_BYTES: usize = 64 << 10;
/// Tail of an exec command's stderr that becomes the traceback of its failure, in bytes.
pub const EXEC_STDERR_TAIL_BYTES: usize = 16 << 10;
/// Longest input that is also handed to an exec command in its environment, in bytes.
pub const EXEC_ENV_INPUT_MAX_BYTES: usize = 64 << 10;
/// How long an exec command has between SIGTERM and SIGKILL.
pub const EXEC_TERM_GRACE: Duration = Duration::from_secs(5);
/// Longest line of an exec command that is read as an event of its own (one that begins with `{`), in bytes: the data
/// of one event, and room for its type around them.
pub const EXEC_JSON_LINE_MAX_BYTES: usize = EVENT_DATA_MAX_BYTES + (4 << 10);
/// Longest argument that a template may make for an exec command, in bytes; Linux takes no longer one.
pub const EXEC_ARGUMENT_MAX_BYTES: usize = (128 << 10) - 1;
/// Bytes that are read from an exec command's output at once.
pub const EXEC_READ_BYTES: usize = 32 << 10;
/// Longest wait for an answer of the guard process or of an attempt process before it counts as hung.
pub const EXEC_ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Wait between two looks at the processes of an exec command while they are being ended.
pub const EXEC_GROUP_POLL: Duration = Duration::from_millis(25);
/// Longest wait for processes to be gone that were sent SIGKILL.
pub const EXEC_KILL_WAIT: Duration = Duration::from_secs(1);

/// How long an http model waits for a connection, by default.
pub const HTTP_CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long an http model waits for the head of an answer, by default.
pub const HTTP_FIRST_BYTE_WAIT: Duration = Duration::from_secs(300);
/// Longest silence within an answer that an http model bears, by default.
pub const HTTP_IDLE_WAIT: Duration = Duration::from_secs(300);
/// Longest wait of an http model that a configuration may ask for.
pub const HTTP_WAIT_MAX_SECONDS: u64 = 24 * 60 * 60;
/// Longest address that an http model calls, in bytes.
pub const HTTP_ADDRESS_MAX_BYTES: usize = 8 << 10;
/// Longest value of a header that an http model sends, in bytes.
pub const HTTP_HEADER_MAX_BYTES: usize = 8 << 10;
/// Most redirects that an http model follows in one call.
pub const HTTP_REDIRECTS_MAX: usize = 5;
/// Beginning of an answer that refuses a call of an http model which becomes the traceback of its failure, in bytes.
pub const HTTP_REFUSAL_MAX_BYTES: usize = 16 << 10;
/// How long an http model reads such an answer.
pub const HTTP_REFUSAL_WAIT: Duration = Duration::from_secs(5);
/// Longest message of an endpoint that has failed by its own words, in bytes; the rest is cut and marked.
pub const HTTP_SAID_MAX_BYTES: usize = 1 << 10;

/// Longest delay that a demo model takes, in milliseconds.
pub const DEMO_DELAY_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// Most events that one run of a demo model sends.
pub const DEMO_MAX_EVENTS: u64 = 10_000_000;
/// Highest rate of a demo model, in events per second.
pub const DEMO_RATE_MAX_PER_SECOND: u64 = 10_000_000;
/// Largest answer that the demo model `HttpFetchTask` reads, in bytes.
pub const DEMO_FETCH_MAX_BYTES: u64 = 64 << 20;
/// How long the demo model `HttpFetchTask` waits for a connection, and for each part of an answer.
pub const DEMO_FETCH_WAIT: Duration = Duration::from_secs(30);

/// How long `soloist run` asks again for a cancel that the store cannot take, before it ends its command itself.
pub const RUN_CANCEL_WAIT: Duration = Duration::from_secs(5);
/// Wait of `soloist run` before it asks a store again that could not be asked.
pub const RUN_ASK_AGAIN: Duration = Duration::from_millis(200);
/// How often `soloist run` creates its task where somebody deletes it before it is started.
pub const RUN_CREATE_TRIES: u32 = 10;

/// Most runs of one model at a time in one process that a configuration may allow.
pub const CONCURRENT_MAX: usize = 100_000;
/// Longest linger that a configuration may ask for.
pub const LINGER_MAX_SECONDS: u64 = 24 * 60 * 60;
/// Longest shutdown grace that a configuration may ask for.
pub const SHUTDOWN_GRACE_MAX_SECONDS: u64 = 60 * 60;

/// Cuts `text` to at most `max` bytes at a character boundary and marks the cut.
///
/// ```
/// assert_eq!(soloist::limits::cut("abc", 3), "abc");
/// assert_eq!(soloist::limits::cut("abcd", 3), "abc [cut]");
/// ```
#[must_use]
pub fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    format!("{} [cut]", &text[..end])
}
