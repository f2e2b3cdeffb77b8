//! The orders in which two or three connections can meet, driven statement by statement, at every isolation level: claims,
//! appends, endings, cancels, takeovers, heartbeats and signals, with the statements of `src/sql` as they stand there.
//!
//! A connection that has to wait is seen to wait in the database before the next one goes on, so every order here is the
//! one that is named. Beside each rule stands what goes wrong without it: a statement as it is often written, in the same
//! order, with the fault that it has. So these tests can fail.

use std::{sync::Arc, time::Duration};

use soloist_postgres::PgStore;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, error::SqlState};

use crate::stage::{plain, schema, within};

pub(crate) const READ_COMMITTED: &str = "READ COMMITTED";
pub(crate) const REPEATABLE_READ: &str = "REPEATABLE READ";
pub(crate) const LEVELS: [&str; 3] = [READ_COMMITTED, REPEATABLE_READ, "SERIALIZABLE"];

pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// A connection.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    pid: String,
}

impl Session {
    pub(crate) async fn open(level: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(&plain().url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let session = Self { client: Arc::new(client), pid: String::new() };
        session.run(&format!("SET default_transaction_isolation = '{level}'")).await.unwrap();
        let pid = session.run("SELECT pg_backend_pid()").await.unwrap().remove(0).remove(0).unwrap();
        Self { pid, ..session }
    }

    pub(crate) async fn run(&self, sql: &str) -> Result<Rows, SqlState> {
        let said = self.client.simple_query(sql).await.map_err(|error| error.code().unwrap().clone())?;
        let rows = said.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The same as the store asks: again, where it gave way.
    pub(crate) async fn ask(&self, sql: &str) -> Rows {
        for _ in 0..100 {
            match self.run(sql).await {
                Ok(rows) => return rows,
                Err(code) if code == SqlState::T_R_SERIALIZATION_FAILURE => {}
                Err(code) => panic!("{code:?}: {sql}"),
            }
        }
        panic!("it gives way for ever: {sql}")
    }

    /// Asks, and returns once it has to wait for somebody.
    pub(crate) async fn waits(&self, sql: &str) -> JoinHandle<Rows> {
        let (session, sql) = (self.clone(), sql.to_owned());
        let asked = tokio::spawn(async move { session.ask(&sql).await });
        self.until_blocked().await;
        asked
    }

    pub(crate) async fn until_blocked(&self) {
        let watch = Session { pid: String::new(), ..Self::open(READ_COMMITTED).await };
        let blocked = format!("SELECT 1 FROM pg_locks WHERE pid = {} AND NOT granted", self.pid);
        for _ in 0..1_000 {
            if !watch.run(&blocked).await.unwrap().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it does not wait");
    }
}

/// A schema with two living nodes, and tasks in it.
pub(crate) struct World {
    pub(crate) schema: String,
    pub(crate) setup: Session,
}

impl World {
    pub(crate) async fn new() -> Self {
        let schema = schema();
        drop(PgStore::open_with(&plain().url(), within(&schema)).await.unwrap());
        let world = Self { schema, setup: Session::open(READ_COMMITTED).await };
        let nodes = "INSERT INTO soloist.node (id, joined_at, lease_us, lease_until_us)
                     VALUES ('n1', 0, 100, 100), ('n2', 0, 100, 1000000)";
        world.setup.run(&world.sql(nodes, &[])).await.unwrap();
        world
            .setup
            .run(&world.sql("INSERT INTO soloist.inbox (node) VALUES ('n1'), ('n2')", &[]))
            .await
            .unwrap();
        world
    }

    pub(crate) async fn task(&self, id: &str, status: &str) {
        let (node, place) = match status {
            "running" | "cancelling" => ("'n1'", "NULL"),
            "queued" => ("NULL", "1"),
            _ => ("NULL", "NULL"),
        };
        let task = format!(
            "WITH made AS (INSERT INTO soloist.task (app, model, id, status, run, attempt, epoch, node, place, created_at, updated_at)
                           VALUES ('a', 'M', '{id}', '{status}', 1, 1, 5, {node}, {place}, 0, 0) RETURNING number)
             INSERT INTO soloist.input SELECT number, '1' FROM made"
        );
        self.setup.run(&self.sql(&task, &[])).await.unwrap();
    }

    /// A statement in this schema, with values for its names.
    pub(crate) fn sql(&self, sql: &str, values: &[(&str, &str)]) -> String {
        let lines: Vec<&str> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        let mut sql = lines.join("\n").replace("soloist.", &format!("{}.", self.schema));
        let mut values = values.to_vec();
        values.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        for (name, value) in values {
            sql = sql.replace(&format!(":{name}"), value);
        }
        sql
    }

    pub(crate) async fn look(&self, sql: &str) -> String {
        let rows = self.setup.run(&self.sql(sql, &[])).await.unwrap();
        let line = |row: Vec<Option<String>>| {
            row.into_iter().map(|v| v.unwrap_or("-".into())).collect::<Vec<_>>().join(" ")
        };
        rows.into_iter().map(line).collect::<Vec<_>>().join(", ")
    }

    /// Of a node that has seen run 1.
    pub(crate) fn claim(&self, node: &str, claim_id: &str) -> String {
        self.claim_after("1", node, claim_id)
    }

    pub(crate) fn claim_after(&self, run: &str, node: &str, claim_id: &str) -> String {
        self.claim_of("1", &[("run", run), ("node", &format!("'{node}'")), ("claim_id", claim_id)])
    }

    /// Of n1, that has seen run 1, with other values where they are named.
    pub(crate) fn claim_of(&self, id: &str, more: &[(&str, &str)]) -> String {
        let id = format!("'{id}'");
        let usual = [
            ("app", "'a'"),
            ("model", "'M'"),
            ("id", id.as_str()),
            ("restart", "true"),
            ("here", "true"),
            ("max_total", "NULL::integer"),
            ("node", "'n1'"),
            ("claim_id", "7"),
            ("run", "1"),
            ("owed", "false"),
            ("at", "1"),
            ("trace_parent", "NULL::text"),
            ("trace_state", "NULL::text"),
        ];
        self.sql(include_str!("../../src/sql/claim.sql"), &[more, &usual].concat())
    }

    /// The same where it is claimed together with others.
    pub(crate) fn claim_among_others(&self, owed: &str) -> String {
        let one = [
            ("apps", "ARRAY['a']"),
            ("models", "ARRAY['M']"),
            ("ids", "ARRAY['1']"),
            ("nodes", "ARRAY['n1']"),
            ("claim_ids", "ARRAY[7]"),
            ("runs", "ARRAY[1]"),
            ("oweds", owed),
            ("restarts", "ARRAY[true]"),
            ("heres", "ARRAY[true]"),
            ("ats", "ARRAY[1]"),
            ("trace_parents", "ARRAY[NULL]::text[]"),
            ("trace_states", "ARRAY[NULL]::text[]"),
        ];
        self.sql(include_str!("../../src/sql/claim_many.sql"), &one)
    }

    pub(crate) fn claim_keyed(&self, claim_id: &str) -> String {
        self.claim_keyed_of(&[("claim_id", claim_id)])
    }

    pub(crate) fn claim_keyed_of(&self, more: &[(&str, &str)]) -> String {
        let usual = [
            ("app", "'a'"),
            ("model", "'M'"),
            ("id", "'1'"),
            ("restart", "true"),
            ("here", "true"),
            ("max_total", "NULL::integer"),
            ("after", "NULL::bigint"),
            ("wanted", "0"),
            ("node", "'n1'"),
            ("claim_id", "7"),
            ("at", "1"),
            ("subject", "''"),
            ("call", "'start'"),
            ("target", "'a/M/1'"),
            ("key", "'k'"),
            ("digest", "'d'"),
            ("trace_parent", "NULL::text"),
            ("trace_state", "NULL::text"),
        ];
        self.sql(include_str!("../../src/sql/claim_keyed.sql"), &[more, &usual].concat())
    }

    pub(crate) fn want(&self, wanted: &str) -> String {
        let key = [("app", "'a'"), ("model", "'M'"), ("id", "'1'"), ("run", "1"), ("wanted", wanted)];
        self.sql(include_str!("../../src/sql/want.sql"), &key)
    }

    pub(crate) fn ripen(&self, at: &str) -> String {
        self.sql(include_str!("../../src/sql/ripen.sql"), &[("at", at), ("limit", "10")])
    }

    pub(crate) fn prune(&self) -> String {
        let old = [
            ("app", "'a'"),
            ("model", "'M'"),
            ("status", "'completed'"),
            ("before", "5"),
            ("limit", "10"),
            ("at", "9"),
        ];
        self.sql(include_str!("../../src/sql/prune.sql"), &old)
    }

    pub(crate) fn signals_of(&self, run: &str) -> String {
        let key =
            [("app", "'a'"), ("model", "'M'"), ("id", "'1'"), ("run", run), ("after", "0"), ("limit", "10")];
        self.sql(include_str!("../../src/sql/signals.sql"), &key)
    }

    pub(crate) fn delete(&self) -> String {
        let key = [("app", "'a'"), ("model", "'M'"), ("id", "'1'"), ("run", "NULL::bigint"), ("at", "1")];
        self.sql(include_str!("../../src/sql/delete.sql"), &key)
    }

    pub(crate) fn create(&self) -> String {
        self.create_with("NULL::text", "NULL::bigint")
    }

    /// With its first run, of a node, under the number of that claim.
    pub(crate) fn create_with(&self, node: &str, claim_id: &str) -> String {
        let new = [
            ("node", node),
            ("claim_id", claim_id),
            ("here", "true"),
            ("trace_parent", "NULL::text"),
            ("trace_state", "NULL::text"),
            ("app", "'a'"),
            ("model", "'M'"),
            ("id", "'1'::text"),
            ("owner", "NULL"),
            ("max_retries", "0"),
            ("timeout_seconds", "NULL::integer"),
            ("deadline_seconds", "NULL::integer"),
            ("run_at", "NULL::bigint"),
            ("at", "1"),
            ("input", "'2'::text"),
        ];
        self.sql(include_str!("../../src/sql/create.sql"), &new)
    }

    pub(crate) fn active(&self) -> String {
        let key = [("app", "'a'"), ("model", "'M'"), ("id", "'1'"), ("asking", "'n1'")];
        self.sql(include_str!("../../src/sql/active.sql"), &key)
    }

    pub(crate) fn claim_queued(&self) -> String {
        self.claim_queued_as("7")
    }

    pub(crate) fn claim_queued_as(&self, claim_id: &str) -> String {
        self.claim_queued_of(&[("claim_id", claim_id)])
    }

    pub(crate) fn claim_queued_of(&self, more: &[(&str, &str)]) -> String {
        let usual = [
            ("apps", "ARRAY['a']"),
            ("models", "ARRAY['M']"),
            ("max_totals", "ARRAY[NULL]::integer[]"),
            ("node", "'n1'"),
            ("claim_id", "7"),
            ("at", "1"),
            ("heads", "32"),
        ];
        self.sql(include_str!("../../src/sql/claim_queued.sql"), &[more, &usual].concat())
    }

    /// One of the statements of the group commit, for some tasks; a holder is n1 at the beginning of the log.
    pub(crate) fn group(&self, sql: &str, ids: &[&str], by: By, more: &[(&str, &str)]) -> String {
        let each = |value: &str| format!("ARRAY[{}]", vec![value; ids.len()].join(","));
        let places: Vec<String> = (1..=ids.len()).map(|n| n.to_string()).collect();
        let (node, after, epoch_after) = match by {
            By::Holder => ("'n1'", "0", "5"),
            By::Other => ("NULL", "NULL", "5"),
            By::Takeover => ("NULL", "NULL", "6"),
        };
        let values = [
            ("apps", each("'a'")),
            ("models", each("'M'")),
            (
                "ids",
                format!("ARRAY[{}]", ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(",")),
            ),
            ("epochs", each("5::bigint")),
            ("nodes", format!("{}::text[]", each(node))),
            ("afters", format!("{}::bigint[]", each(after))),
            // Whoever holds the run is known by its epoch; others say which run they saw.
            ("runs", format!("{}::bigint[]", each("NULL"))),
            ("counts", each("1::bigint")),
            ("epochs_after", each(epoch_after)),
            ("batch_places", format!("ARRAY[{}]", places.join(","))),
            ("batch_firsts", each("1")),
            ("batch_lasts", each("1")),
            ("batch_epochs", each(epoch_after)),
            ("batch_bytes", each("1")),
            ("batch_events", each("'[[0,\"t\",1]]'")),
            ("relaxed", "false".to_owned()),
            ("ats", each("9")),
            ("attempts", each("2")),
            ("retry_counts", each("1")),
            ("node_losses", each("1")),
            ("store_losses", each("0")),
            ("due_ats", format!("{}::bigint[]", each("NULL"))),
            ("forgets", each("false")),
            ("final_values", each("'1'")),
            ("error_types", format!("{}::text[]", each("NULL"))),
            ("error_messages", format!("{}::text[]", each("NULL"))),
            ("error_tracebacks", format!("{}::text[]", each("NULL"))),
            ("reasons", format!("{}::text[]", each("'r'"))),
        ];
        let usual: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.sql(sql, &[more, &usual].concat())
    }

    pub(crate) fn append(&self, ids: &[&str]) -> String {
        self.group(include_str!("../../src/sql/append.sql"), ids, By::Holder, &[])
    }

    pub(crate) fn takeover(&self) -> String {
        let froms = [("froms", "ARRAY['running']")];
        self.group(include_str!("../../src/sql/requeue.sql"), &["1"], By::Takeover, &froms)
    }

    pub(crate) fn finish(&self, by: By, from: &str, to: &str) -> String {
        let (from, to) = (format!("ARRAY['{from}']"), format!("ARRAY['{to}']"));
        let more = [("froms", from.as_str()), ("tos", to.as_str())];
        self.group(include_str!("../../src/sql/finish.sql"), &["1"], by, &more)
    }

    pub(crate) fn cancel(&self) -> String {
        let froms = [("froms", "ARRAY['running']")];
        self.group(include_str!("../../src/sql/cancel.sql"), &["1"], By::Other, &froms)
    }

    pub(crate) fn renew(&self, now: &str) -> String {
        self.sql(include_str!("../../src/sql/renew.sql"), &[("node", "'n1'"), ("now", now)])
    }

    pub(crate) fn bury(&self, now: &str) -> String {
        self.sql(include_str!("../../src/sql/bury.sql"), &[("now", now)])
    }

    pub(crate) fn signal(&self) -> String {
        let values = [
            ("app", "'a'"),
            ("model", "'M'"),
            ("id", "'1'"),
            ("name", "'n'"),
            ("data", "'1'"),
            ("at", "1"),
            ("max", "10"),
        ];
        self.sql(include_str!("../../src/sql/signal.sql"), &values)
    }
}

#[derive(Clone, Copy)]
pub(crate) enum By {
    Holder,
    Other,
    /// Raises the epoch.
    Takeover,
}

/// Two connections in a new world with one task.
pub(crate) async fn meet(level: &str, status: &str) -> (World, Session, Session) {
    let world = World::new().await;
    world.task("1", status).await;
    (world, Session::open(level).await, Session::open(level).await)
}

pub(crate) const STATE: &str = "SELECT status, run, epoch, node, last_seq FROM soloist.task WHERE id = '1'";
const EVENTS: &str = "SELECT first_seq, epoch FROM soloist.event_batch ORDER BY last_seq";

#[tokio::test(flavor = "multi_thread")]
async fn s1_a_claim_beside_one_that_has_not_committed_waits_for_nobody_and_is_told_the_truth_after() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "pending").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.claim("n1", "7")).await.unwrap().len(), 1);
        assert!(b.ask(&world.claim("n2", "8")).await.is_empty(), "{level}: it passes the locked row by");
        let seen = b.ask(&world.active()).await;
        assert_eq!(seen[0][1].as_deref(), Some("pending"), "{level}: that is no answer, and it goes round");
        a.run("COMMIT").await.unwrap();
        assert!(b.ask(&world.claim("n2", "8")).await.is_empty(), "{level}");
        let seen = b.ask(&world.active()).await;
        assert_eq!((seen[0][1].as_deref(), seen[0][5].as_deref()), (Some("running"), Some("n1")), "{level}");
        assert_eq!(world.look(STATE).await, "running 2 6 n1 0", "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_it_a_loser_waits_for_the_winner_and_is_told_the_row_as_it_was_before() {
    let (world, a, b) = meet(READ_COMMITTED, "pending").await;
    let update = "UPDATE soloist.task SET status = 'running', node = 'n1', epoch = epoch + 1
                   WHERE id = '1' AND status = 'pending' RETURNING status";
    let and_read = format!(
        "WITH won AS ({update}) SELECT status FROM won
         UNION ALL SELECT status FROM soloist.task WHERE id = '1' AND NOT EXISTS (SELECT 1 FROM won)"
    );
    a.run("BEGIN").await.unwrap();
    a.run(&world.sql(update, &[])).await.unwrap();
    let told = b.waits(&world.sql(&and_read, &[])).await;
    a.run("COMMIT").await.unwrap();
    assert_eq!(told.await.unwrap(), [[Some("pending".to_owned())]], "it lost to a run, and is told of none");
}

#[tokio::test(flavor = "multi_thread")]
async fn s6_an_append_that_meets_a_takeover_is_fenced() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "running").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.takeover()).await.unwrap().len(), 1);
        let late = b.waits(&world.append(&["1"])).await;
        a.run("COMMIT").await.unwrap();
        assert!(late.await.unwrap().is_empty(), "{level}");
        assert_eq!(world.look(STATE).await, "queued 1 6 - 1", "{level}");
        assert_eq!(world.look(EVENTS).await, "1 6", "{level}: only that of the takeover");

        // The other way round the takeover loses nothing: its event follows.
        let (world, a, b) = meet(level, "running").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.append(&["1"])).await.unwrap().len(), 1);
        let after = b.waits(&world.takeover()).await;
        a.run("COMMIT").await.unwrap();
        assert_eq!(after.await.unwrap().len(), 1, "{level}");
        assert_eq!(world.look(EVENTS).await, "1 5, 2 6", "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s6_a_condition_on_a_row_that_is_only_read_lets_an_event_of_an_old_epoch_in() {
    for level in [READ_COMMITTED, REPEATABLE_READ] {
        let (world, a, b) = meet(level, "running").await;
        let insert = "INSERT INTO soloist.event_batch
                      SELECT number, 2, 2, 1, 5, 1, '[]' FROM soloist.task
                       WHERE id = '1' AND EXISTS (SELECT 1 FROM soloist.task AS held WHERE held.number = task.number
                                                     AND held.epoch = 5 AND held.status = 'running')";
        a.run("BEGIN").await.unwrap();
        a.run(&world.finish(By::Takeover, "running", "failed")).await.unwrap();
        b.run(&world.sql(insert, &[])).await.unwrap();
        a.run("COMMIT").await.unwrap();
        assert_eq!(world.look(EVENTS).await, "1 6, 2 5", "{level}: after the end of its run");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s6_an_epoch_that_rises_at_claims_alone_leaves_the_newest_to_a_zombie() {
    let (world, a, _) = meet(READ_COMMITTED, "running").await;
    let requeue =
        "UPDATE soloist.task SET status = 'queued', node = NULL, place = 1 WHERE id = '1' AND epoch = 5";
    a.run(&world.sql(requeue, &[])).await.unwrap();
    let by_epoch = "UPDATE soloist.task SET last_seq = last_seq + 1 WHERE id = '1' AND epoch = 5 RETURNING 1";
    assert_eq!(a.run(&world.sql(by_epoch, &[])).await.unwrap().len(), 1, "the epoch is the newest one still");
    assert!(
        a.run(&world.append(&["1"])).await.unwrap().is_empty(),
        "node and status stand on the row as well"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_of_two_endings_of_one_run_the_second_finds_the_first() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "running").await;
        a.run("BEGIN").await.unwrap();
        a.run(&world.finish(By::Holder, "running", "completed")).await.unwrap();
        let cancel = b.waits(&world.cancel()).await;
        a.run("COMMIT").await.unwrap();
        assert!(cancel.await.unwrap().is_empty(), "{level}: work that finished counts");
        assert!(b.ask(&world.finish(By::Takeover, "running", "failed")).await.is_empty(), "{level}");
        assert_eq!(world.look(STATE).await, "completed 1 5 - 1", "{level}");

        let (world, a, b) = meet(level, "running").await;
        a.run("BEGIN").await.unwrap();
        a.run(&world.cancel()).await.unwrap();
        let ending = b.waits(&world.finish(By::Holder, "running", "completed")).await;
        a.run("COMMIT").await.unwrap();
        assert!(ending.await.unwrap().is_empty(), "{level}: it is computed anew from what it finds");
        assert_eq!(world.look(STATE).await, "cancelling 1 5 n1 1", "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s7_a_cancel_and_a_claim_of_a_queued_run_never_both_happen() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "queued").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.claim_queued()).await.unwrap().len(), 1);
        let cancel = b.waits(&world.finish(By::Other, "queued", "cancelled")).await;
        a.run("COMMIT").await.unwrap();
        assert!(cancel.await.unwrap().is_empty(), "{level}");
        assert_eq!(world.look(STATE).await, "running 1 6 n1 0", "{level}");

        let (world, a, b) = meet(level, "queued").await;
        a.run("BEGIN").await.unwrap();
        a.run(&world.finish(By::Other, "queued", "cancelled")).await.unwrap();
        assert!(b.ask(&world.claim_queued()).await.is_empty(), "{level}: it is passed by");
        a.run("COMMIT").await.unwrap();
        assert!(b.ask(&world.claim_queued()).await.is_empty(), "{level}");
        assert_eq!(world.look(STATE).await, "cancelled 1 5 - 1", "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_lock_their_rows_in_one_order_whatever_order_they_name_them_in() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "running").await;
        world.task("2", "running").await;
        let lock = Session::open(READ_COMMITTED).await;
        lock.run("BEGIN").await.unwrap();
        lock.run(&world.sql("SELECT 1 FROM soloist.task WHERE id = '1' FOR UPDATE", &[])).await.unwrap();
        let forth = a.waits(&world.append(&["1", "2"])).await;
        let back = b.waits(&world.append(&["2", "1"])).await;
        // Neither has what the other waits for.
        let free = world.sql("SELECT 1 FROM soloist.task WHERE id = '2' FOR UPDATE NOWAIT", &[]);
        assert_eq!(world.setup.run(&free).await.unwrap().len(), 1, "{level}");
        lock.run("COMMIT").await.unwrap();
        let mut committed = [forth.await.unwrap().len(), back.await.unwrap().len()];
        committed.sort_unstable();
        assert_eq!(committed, [0, 2], "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_order_two_batches_wait_for_each_other() {
    let (world, a, b) = meet(READ_COMMITTED, "running").await;
    world.task("2", "running").await;
    let touch = |id: &str| {
        world.sql(&format!("UPDATE soloist.task SET last_seq = last_seq + 1 WHERE id = '{id}'"), &[])
    };
    for session in [&a, &b] {
        session.run("BEGIN").await.unwrap();
    }
    a.run(&touch("1")).await.unwrap();
    b.run(&touch("2")).await.unwrap();
    let (waiting, second) = (a.clone(), touch("2"));
    let forth = tokio::spawn(async move { waiting.run(&second).await });
    a.until_blocked().await;
    let back = b.run(&touch("1")).await;
    let failed = [forth.await.unwrap(), back].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(failed, [SqlState::T_R_DEADLOCK_DETECTED]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_a_batch_that_meets_another_for_its_place_in_the_log_is_not_passed_over() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "running").await;
        a.run("BEGIN").await.unwrap();
        a.run(&world.append(&["1"])).await.unwrap();
        let second = b.waits(&world.append(&["1"])).await;
        a.run("COMMIT").await.unwrap();
        assert!(second.await.unwrap().is_empty(), "{level}: it is told, and finds out whose batch is there");
        assert_eq!(world.look(EVENTS).await, "1 5", "{level}");
    }
    let (world, a, _) = meet(READ_COMMITTED, "running").await;
    a.run(&world.append(&["1"])).await.unwrap();
    let other =
        "INSERT INTO soloist.event_batch SELECT number, 1, 1, 1, 6, 1, '[]' FROM soloist.task WHERE id = '1'
                     ON CONFLICT DO NOTHING";
    a.run(&world.sql(other, &[])).await.unwrap();
    assert_eq!(world.look(EVENTS).await, "1 5", "an event of epoch 6 is lost, and nobody is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burial_that_meets_a_renewal_finds_it_and_a_renewal_finds_a_burial() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "running").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.renew("99")).await.unwrap().len(), 1);
        let bury = b.waits(&world.bury("100")).await;
        a.run("COMMIT").await.unwrap();
        assert!(bury.await.unwrap().is_empty(), "{level}: it has renewed in time");

        let (world, a, b) = meet(level, "running").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.bury("100")).await.unwrap().len(), 1);
        let renew = b.waits(&world.renew("99")).await;
        a.run("COMMIT").await.unwrap();
        assert!(renew.await.unwrap().is_empty(), "{level}: it is dead for good");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_only_reads_the_lease_takes_over_a_node_that_has_just_renewed() {
    for level in [READ_COMMITTED, REPEATABLE_READ] {
        let (world, a, b) = meet(level, "running").await;
        let take = "UPDATE soloist.task SET status = 'queued', node = NULL, place = 1, epoch = epoch + 1
                     WHERE id = '1' AND node IN (SELECT id FROM soloist.node WHERE lease_until_us <= 100) RETURNING 1";
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.renew("99")).await.unwrap().len(), 1);
        assert_eq!(b.run(&world.sql(take, &[])).await.unwrap().len(), 1, "{level}");
        a.run("COMMIT").await.unwrap();
        let lives = "SELECT dead, lease_until_us FROM soloist.node WHERE id = 'n1'";
        assert_eq!(world.look(lives).await, "f 199", "{level}: it lives, and its run is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_slips_in_beside_a_burial_is_an_orphan_for_the_next_look() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "pending").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.bury("100")).await.unwrap().len(), 1);
        assert_eq!(b.ask(&world.claim("n1", "7")).await.len(), 1, "{level}: it has not been buried yet");
        // Where the level forbids that both happened at once, one of them gives way.
        if a.run("COMMIT").await.is_err() {
            a.ask(&world.bury("100")).await;
        }
        let orphans = world.sql(include_str!("../../src/sql/orphans.sql"), &[("limit", "10")]);
        assert_eq!(b.ask(&orphans).await.len(), 1, "{level}");
        assert!(b.ask(&world.claim("n1", "8")).await.is_empty(), "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_was_lost_is_found_by_asking_again_under_its_number() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "pending").await;
        // Sent, and the connection breaks before the answer: the database carries it out all the same, in its own time.
        a.run("BEGIN").await.unwrap();
        a.run(&world.claim("n1", "7")).await.unwrap();
        let found = "SELECT 1 FROM soloist.task WHERE claim_id = 7";
        assert_eq!(
            world.look(found).await,
            "",
            "{level}: a look-up alone finds nothing, and then the claim lands"
        );
        assert!(b.ask(&world.claim("n1", "7")).await.is_empty(), "{level}");
        assert_eq!(
            b.ask(&world.active()).await[0][1].as_deref(),
            Some("pending"),
            "{level}: not decided, it goes round"
        );
        a.run("COMMIT").await.unwrap();
        assert!(b.ask(&world.claim("n1", "7")).await.is_empty(), "{level}: it wins no second time");
        let row = b.ask(&world.active()).await.remove(0);
        assert_eq!(
            (row[1].as_deref(), row[6].as_deref()),
            (Some("running"), Some("7")),
            "{level}: its own number"
        );
        // Nor does it once its run is over.
        b.ask(&world.finish_of_epoch_6()).await;
        assert!(b.ask(&world.claim("n1", "7")).await.is_empty(), "{level}");
        assert_eq!(b.ask(&world.claim_after("2", "n1", "8")).await.len(), 1, "{level}: another one does");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_with_its_run_that_is_sent_again_or_comes_late_begins_no_second_one() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "completed").await;
        let create = world.create_with("'n1'::text", "7::bigint");
        a.ask(&world.sql("TRUNCATE soloist.task", &[])).await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&create).await.unwrap().len(), 1, "{level}");
        let again = b.waits(&create).await;
        a.run("COMMIT").await.unwrap();
        // At the higher levels it gives way, and goes round.
        if let Ok(rows) = again.await {
            assert!(rows.is_empty(), "{level}: it is there");
        }
        assert_eq!(world.look(STATE).await, "running 1 1 n1 0", "{level}");
        let ends = "UPDATE soloist.task SET status = 'completed', node = NULL";
        a.ask(&world.sql(ends, &[])).await;
        assert!(b.ask(&create).await.is_empty(), "{level}: it is there still");
        assert_eq!(a.ask(&world.delete()).await.len(), 1, "{level}");
        assert!(b.ask(&create).await.is_empty(), "{level}: its task was run and deleted");
        assert_eq!(world.look(STATE).await, "deleted 1 1 - 0", "{level}");
        assert_eq!(b.ask(&world.create()).await.len(), 1, "{level}: without a run it is made anew");
        assert_eq!(world.look(STATE).await, "pending 1 1 - 0", "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_an_owed_run_begins_nothing_where_its_task_was_created_anew_since_its_look() {
    for level in LEVELS {
        let owed = |world: &World| {
            [world.claim_of("1", &[("owed", "true")]), world.claim_among_others("ARRAY[true]")]
        };
        for n in 0..2 {
            let (world, a, b) = meet(level, "completed").await;
            a.run(&world.sql("UPDATE soloist.task SET next_run = 1", &[])).await.unwrap();
            assert_eq!(a.ask(&world.delete()).await.len(), 1, "{level}");
            assert_eq!(a.ask(&world.create()).await.len(), 1, "{level}");
            assert!(b.ask(&owed(&world)[n]).await.is_empty(), "{level}: nobody has started the new task");
            assert_eq!(b.ask(&world.active()).await[0][1].as_deref(), Some("pending"), "{level}");
            let started = [world.claim("n1", "8"), world.claim_among_others("ARRAY[false]")];
            assert_eq!(b.ask(&started[n]).await.len(), 1, "{level}: whoever starts it does");

            let (world, a, b) = meet(level, "completed").await;
            a.run(&world.sql("UPDATE soloist.task SET next_run = 1", &[])).await.unwrap();
            assert_eq!(
                b.ask(&owed(&world)[n]).await.len(),
                1,
                "{level}: the owed run of the old one is begun"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_sent_again_starts_no_second_run_where_somebody_has_ended_the_one_that_it_queued() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "pending").await;
        let queue = world.claim_of("1", &[("here", "false")]);
        assert_eq!(a.ask(&queue).await.len(), 1);
        assert_eq!(world.look(STATE).await, "queued 2 5 - 0", "{level}: and the answer is lost");
        assert_eq!(b.ask(&world.claim_queued_as("99")).await.len(), 1, "{level}: it leaves another number");
        b.ask(&world.finish_of_epoch_6()).await;
        assert!(a.ask(&queue).await.is_empty(), "{level}");
        assert_eq!(world.look(STATE).await, "completed 2 6 - 0", "{level}: one start, one run");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_under_a_key_never_keeps_a_start_that_did_not_happen() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "completed").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.delete()).await.unwrap().len(), 1);
        assert_eq!(a.run(&world.create()).await.unwrap().len(), 1);
        let start = b.waits(&world.claim_keyed("7")).await;
        a.run("COMMIT").await.unwrap();
        let told = start.await.unwrap().len();
        // Either nothing was decided, and it goes round; or it has won, and it runs.
        let kept = "SELECT count(*) FROM soloist.idempotency";
        assert_eq!(world.look(kept).await, told.to_string(), "{level}");
        if told == 0 {
            assert_eq!(b.ask(&world.claim_keyed("7")).await.len(), 1, "{level}");
        }
        assert_eq!(world.look(STATE).await, "running 2 6 n1 0", "{level}");
        assert_eq!(world.look("SELECT started, run FROM soloist.idempotency").await, "t 2", "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_under_a_key_that_waits_for_another_write_is_decided_on_what_that_leaves() {
    let kept = "SELECT started, run FROM soloist.idempotency";
    for level in LEVELS {
        // The run ends that was active when the statement began.
        let (world, a, b) = meet(level, "running").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.finish(By::Holder, "running", "completed")).await.unwrap().len(), 1);
        let start = b.waits(&world.claim_keyed("7")).await;
        a.run("COMMIT").await.unwrap();
        assert_eq!(start.await.unwrap().len(), 1, "{level}");
        assert_eq!(
            (&*world.look(STATE).await, &*world.look(kept).await),
            ("running 2 6 n1 1", "t 2"),
            "{level}"
        );
        // One begins that was not there yet, and after that one more is wanted.
        let (world, a, b) = meet(level, "pending").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.claim("n1", "7")).await.unwrap().len(), 1);
        let start = b.waits(&world.claim_keyed_of(&[("wanted", "1"), ("claim_id", "8")])).await;
        a.run("COMMIT").await.unwrap();
        assert_eq!(start.await.unwrap().len(), 1, "{level}");
        assert_eq!(
            (&*world.look(STATE).await, &*world.look(kept).await),
            ("running 2 6 n1 0", "f 3"),
            "{level}"
        );
        assert_eq!(world.look("SELECT next_run FROM soloist.task").await, "1", "{level}: as it was told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_meets_the_cancel_of_a_pending_task_is_none_of_the_next_run() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "pending").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.signal()).await.unwrap().len(), 1);
        let cancel = b.waits(&world.finish(By::Other, "pending", "cancelled")).await;
        a.run("COMMIT").await.unwrap();
        assert_eq!(cancel.await.unwrap().len(), 1, "{level}");
        assert_eq!(b.ask(&world.claim("n1", "7")).await.len(), 1, "{level}");
        assert!(b.ask(&world.signals_of("2")).await.is_empty(), "{level}: it went with the cancel");
        assert_eq!(
            a.ask(&world.signal()).await[0][2].as_deref(),
            Some("1"),
            "{level}: and is in nobody's way"
        );
        assert_eq!(b.ask(&world.signals_of("2")).await.len(), 1, "{level}");
    }
}

impl World {
    fn finish_of_epoch_6(&self) -> String {
        self.sql(
            "UPDATE soloist.task SET status = 'completed', node = NULL WHERE id = '1' AND epoch = 6 AND node = 'n1'",
            &[],
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_numbered_in_the_order_in_which_they_can_be_read() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "running").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.signal()).await.unwrap()[0][2].as_deref(), Some("1"));
        let second = b.waits(&world.signal()).await;
        a.run("COMMIT").await.unwrap();
        assert_eq!(second.await.unwrap()[0][2].as_deref(), Some("2"), "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_from_a_sequence_lose_a_signal() {
    let (world, a, b) = meet(READ_COMMITTED, "running").await;
    a.run(&world.sql("CREATE SEQUENCE soloist.numbers", &[])).await.unwrap();
    let send =
        world.sql("INSERT INTO soloist.signal VALUES (1, 1, nextval('soloist.numbers'), 0, 'n', '1')", &[]);
    a.run("BEGIN").await.unwrap();
    a.run(&send).await.unwrap();
    b.run(&send).await.unwrap();
    assert_eq!(world.look("SELECT number FROM soloist.signal WHERE number > 0").await, "2");
    a.run("COMMIT").await.unwrap();
    assert_eq!(
        world.look("SELECT number FROM soloist.signal WHERE number > 2").await,
        "",
        "1 is read by nobody"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_up_in_the_transaction_that_writes_can_fail_the_write() {
    let (world, a, _) = meet(READ_COMMITTED, "running").await;
    a.run("BEGIN").await.unwrap();
    a.run(&world.append(&["1"])).await.unwrap();
    let told = a.run("SELECT pg_notify('c', repeat('x', 8001))").await;
    assert_eq!(told, Err(SqlState::INVALID_PARAMETER_VALUE));
    a.run("COMMIT").await.unwrap();
    assert_eq!(world.look(EVENTS).await, "", "the batch is gone with it");
}
