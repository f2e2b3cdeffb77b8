//! What the hot statements cost on a table with many finished tasks: which index they use, and that an append leaves the
//! indexes alone.
//!
//! The statements are those of `src/sql`, as they stand there.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use soloist_store_contract::stage::Stage;
use soloist_test_postgres::{Cluster, Database};

use crate::stage::Private;

macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("../../src/sql/", $name, ".sql"))
    };
}

/// 20,000 finished tasks, 40 that are held by two nodes, 40 that wait, events for some.
fn crowded() -> &'static Database<'static> {
    static CROWDED: OnceLock<Database<'static>> = OnceLock::new();
    CROWDED.get_or_init(|| {
        let database = Cluster::shared().database("crowded");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        drop(runtime.block_on(soloist_postgres::PgStore::open(&database.url())).unwrap());
        database.sql(
            "INSERT INTO soloist.node (id, joined_at, lease_us, lease_until_us, dead)
             SELECT 'node-' || n, 0, 1, 1, n > 1 FROM generate_series(0, 40) AS n;
             INSERT INTO soloist.task (app, model, id, status, run, epoch, node, place, created_at, updated_at, owner, completed_at, failed_at)
             SELECT 'a', 'M' || n % 10, n::text, status, 1, 1,
                    CASE WHEN status = 'running' THEN 'node-' || n % 3 END,
                    CASE WHEN status = 'queued' THEN n END, n, n, CASE WHEN n % 100 = 0 THEN 'ada' END,
                    CASE WHEN status = 'completed' THEN n END, CASE WHEN status = 'failed' THEN n END
               FROM (SELECT n, CASE WHEN n % 500 = 0 THEN 'running' WHEN n % 500 = 1 THEN 'queued'
                                    WHEN n % 500 = 2 THEN 'failed' ELSE 'completed' END AS status
                       FROM generate_series(1, 20000) AS n) AS made;
             INSERT INTO soloist.model_slot (app, model, slot) SELECT 'a', 'M1', n FROM generate_series(1, 3) AS n;
             INSERT INTO soloist.input SELECT number, '{}' FROM soloist.task;
             INSERT INTO soloist.event_batch
             SELECT task, n, n, 1, 1, 10, '[[0,\"t\",1]]'
               FROM generate_series(1, 200) AS task, generate_series(1, 100) AS n;
             INSERT INTO soloist.signal SELECT task, 1, 1, 0, 's', '1' FROM generate_series(1, 5000) AS task;
             INSERT INTO soloist.idempotency
             SELECT '', 'start', 'a/M/' || n, 'k', 'd', n, 'a/M/' || n, true, 1, n FROM generate_series(1, 20000) AS n",
        );
        database.sql("ANALYZE");
        database
    })
}

/// A statement with values for its names.
fn filled(sql: &str, values: &[(&str, &str)]) -> String {
    let mut sql = sql.to_owned();
    let mut values = values.to_vec();
    // Longest first: a name may begin with another.
    values.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    for (name, value) in values {
        sql = sql.replace(&format!(":{name}"), value);
    }
    sql
}

/// The plan of a statement with values for its names.
fn plan(sql: &str, values: &[(&str, &str)]) -> String {
    crowded().sql(&format!("EXPLAIN {}", filled(sql, values)))
}

#[track_caller]
fn uses(name: &str, plan: &str, index: &str) {
    assert!(plan.contains(index), "{name} does not use {index}:\n{plan}");
    for table in ["task", "event_batch", "signal", "input", "idempotency"] {
        assert!(!plan.contains(&format!("Seq Scan on {table}")), "{name} reads all of {table}:\n{plan}");
    }
}

const KEY: [(&str, &str); 3] = [("app", "'a'"), ("model", "'M1'"), ("id", "'1'")];
const NOW: (&str, &str) = ("now", "NULL::bigint");

#[test]
fn what_is_asked_of_one_task_uses_its_key() {
    let with = |more: &[(&'static str, &'static str)]| [&KEY[..], more].concat();
    let key = "task_app_model_id_key";
    uses("active", &plan(sql!("active"), &with(&[("asking", "'node-1'")])), key);
    uses("task", &plan(sql!("task"), &with(&[])), key);
    let claim = [
        ("restart", "true"),
        ("here", "true"),
        ("claim_id", "7"),
        ("node", "'node-1'"),
        ("at", "1"),
        ("max_total", "3"),
        ("trace_parent", "NULL::text"),
        ("trace_state", "NULL::text"),
    ];
    uses(
        "claim",
        &plan(sql!("claim"), &with(&[&claim[..], &[("run", "1"), ("owed", "false")]].concat())),
        key,
    );
    let many = [
        ("apps", "ARRAY['a', 'a']"),
        ("models", "ARRAY['M1', 'M1']"),
        ("ids", "ARRAY['1', '11']"),
        ("askings", "ARRAY['node-1', 'node-1']"),
        ("nodes", "ARRAY['node-1', 'node-1']"),
        ("claim_ids", "ARRAY[7, 8]"),
        ("runs", "ARRAY[1, 1]"),
        ("oweds", "ARRAY[false, false]"),
        ("restarts", "ARRAY[true, true]"),
        ("heres", "ARRAY[true, true]"),
        ("ats", "ARRAY[1, 1]"),
        ("trace_parents", "ARRAY[NULL, NULL]::text[]"),
        ("trace_states", "ARRAY[NULL, NULL]::text[]"),
    ];
    uses("active_many", &plan(sql!("active_many"), &many), key);
    uses("claim_many", &plan(sql!("claim_many"), &many), key);
    let keyed =
        [("subject", "''"), ("call", "'start'"), ("target", "'a/M1/1'"), ("key", "'k'"), ("digest", "'d'")];
    let asked = [("after", "1"), ("wanted", "1")];
    uses("claim_keyed", &plan(sql!("claim_keyed"), &with(&[&claim[..], &keyed, &asked].concat())), key);
    uses("want", &plan(sql!("want"), &with(&[("run", "1"), ("wanted", "1")])), key);
    let position = plan(sql!("position"), &with(&[("max", "100001")]));
    uses("position", &position, key);
    uses("position", &position, "task_queued");
    uses("used", &plan(sql!("used"), &keyed[..4]), "idempotency_pkey");
    uses("delete", &plan(sql!("delete"), &with(&[("run", "1"), ("at", "1")])), key);
    let signal = [("name", "'n'"), ("data", "'1'"), ("at", "1"), ("max", "9")];
    uses("signal", &plan(sql!("signal"), &with(&signal)), key);
    uses(
        "signals",
        &plan(sql!("signals"), &with(&[("run", "1"), ("after", "0"), ("limit", "10")])),
        "signal_pkey",
    );
    let page = [("after", "50"), ("until", "99"), ("limit", "1000"), ("max_bytes", "65536")];
    uses("events", &plan(sql!("events"), &with(&page)), "event_batch_pkey");
}

#[test]
fn what_is_asked_again_and_again_uses_an_index_that_is_small() {
    let held = [("node", "'node-1'"), ("status", "'running'")];
    uses("held", &plan(sql!("held"), &held), "task_held");
    uses("orphans", &plan(sql!("orphans"), &[("limit", "100")]), "task_held");
    let waiting = plan(sql!("waiting"), &[]);
    uses("waiting", &waiting, "task_queued");
    uses("waiting", &waiting, "task_due");
    uses("waiting", &waiting, "task_owed");
    uses("owed", &plan(sql!("owed"), &[("limit", "1000")]), "task_owed");
    uses("ripen", &plan(sql!("ripen"), &[("at", "1"), ("limit", "1000")]), "task_due");
    let old = [
        ("app", "'a'"),
        ("model", "'M1'"),
        ("status", "'completed'"),
        ("before", "100"),
        ("limit", "10"),
        ("at", "1"),
    ];
    uses("prune", &plan(sql!("prune"), &old), "task_ended");
    let take = [
        ("apps", "ARRAY['a']"),
        ("models", "ARRAY['M1']"),
        ("max_totals", "ARRAY[3]"),
        ("node", "'node-1'"),
        ("claim_id", "7"),
        ("at", "1"),
        ("heads", "32"),
    ];
    uses("claim_queued", &plan(sql!("claim_queued"), &take), "task_queued");
    uses("expire", &plan(sql!("expire"), &[("before", "1"), ("limit", "10")]), "task_tombstone");
    uses("clear", &plan(sql!("clear"), &[("limit", "10")]), "event_batch_pkey");
    uses("forget", &plan(sql!("forget"), &[("limit", "10")]), "task_held");
    uses("renew", &plan(sql!("renew"), &[("node", "'node-1'"), NOW]), "node");
}

/// Until a table is analyzed, the index of a model's tasks looks as good as that of the keys, and is smaller.
#[test]
fn one_task_is_looked_up_by_its_key_also_where_nothing_is_known_of_the_table() {
    let database = Cluster::shared().database("unknown");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    drop(runtime.block_on(soloist_postgres::PgStore::open(&database.url())).unwrap());
    database.sql(
        "ALTER TABLE soloist.task SET (autovacuum_enabled = false);
         INSERT INTO soloist.task (app, model, id, status, run, created_at, updated_at, completed_at)
         SELECT 'a', 'M1', n::text, 'completed', 1, 0, 0, 0 FROM generate_series(1, 5000) AS n",
    );
    let values = [
        KEY[0],
        KEY[1],
        KEY[2],
        ("asking", "'node-1'"),
        ("node", "'node-1'"),
        ("restart", "true"),
        ("here", "true"),
        ("claim_id", "7"),
        ("max_total", "NULL::integer"),
        ("trace_parent", "NULL::text"),
        ("trace_state", "NULL::text"),
        ("run", "1"),
        ("owed", "false"),
        ("at", "1"),
        ("wanted", "1"),
        ("max", "9"),
        ("name", "'n'"),
        ("data", "'1'"),
        ("after", "0"),
        ("until", "9"),
        ("limit", "9"),
        ("max_bytes", "9"),
        ("subject", "''"),
        ("call", "'start'"),
        ("target", "'a/M1/1'"),
        ("key", "'k'"),
        ("digest", "'d'"),
        ("apps", "ARRAY['a']"),
        ("models", "ARRAY['M1']"),
        ("ids", "ARRAY['1']"),
        ("askings", "ARRAY['node-1']"),
        ("nodes", "ARRAY['node-1']"),
        ("claim_ids", "ARRAY[7]"),
        ("runs", "ARRAY[1]"),
        ("oweds", "ARRAY[false]"),
        ("restarts", "ARRAY[true]"),
        ("heres", "ARRAY[true]"),
        ("ats", "ARRAY[1]"),
        ("trace_parents", "ARRAY[NULL]::text[]"),
        ("trace_states", "ARRAY[NULL]::text[]"),
    ];
    let looks = [
        ("active", sql!("active")),
        ("active_many", sql!("active_many")),
        ("claim", sql!("claim")),
        ("claim_keyed", sql!("claim_keyed")),
        ("claim_many", sql!("claim_many")),
        ("delete", sql!("delete")),
        ("events", sql!("events")),
        ("rows", sql!("rows")),
        ("signal", sql!("signal")),
        ("signals", sql!("signals")),
        ("task", sql!("task")),
        ("task_many", sql!("task_many")),
        ("want", sql!("want")),
    ];
    for (name, sql) in looks {
        let plan = database.sql(&format!("EXPLAIN {}", filled(sql, &values)));
        assert!(plan.contains("task_app_model_id_key"), "{name}:\n{plan}");
    }
}

/// How many pages a statement has looked at.
fn pages(plan: &str) -> u32 {
    let hit = plan.split("Buffers: shared hit=").nth(1).and_then(|rest| rest.split([' ', '\n']).next());
    hit.and_then(|pages| pages.parse().ok()).unwrap_or_else(|| panic!("{plan}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_other_models_costs_a_node_nothing() {
    let queue = |model: &str, status: &str, place: &str| {
        format!(
            "INSERT INTO soloist.task (app, model, id, status, run, place, created_at, updated_at)
             SELECT 'a', '{model}', n::text, '{status}', 1, {place}, 0, 0 FROM generate_series(1, 20000) AS n;"
        )
    };
    let (done, hot) = (queue("Done", "completed", "NULL"), queue("Hot", "queued", "n"));
    // Also where the database knows of no queue yet.
    for order in [format!("{done}{hot}ANALYZE soloist.task"), format!("{done}ANALYZE soloist.task;{hot}")] {
        let stage = Stage::<Private>::new().await;
        let database = &stage.harness.0;
        database.sql("ALTER TABLE soloist.task SET (autovacuum_enabled = false)");
        database.sql(&order);
        database
            .sql("INSERT INTO soloist.node (id, joined_at, lease_us, lease_until_us) VALUES ('n', 0, 1, 1)");
        let explain = |models: &str| {
            let mut sql = sql!("claim_queued").to_owned();
            for (name, value) in [
                ("apps", "ARRAY['a', 'a']"),
                ("models", models),
                ("max_totals", "ARRAY[NULL, NULL]::integer[]"),
                ("node", "'n'"),
                ("claim_id", "7"),
                ("at", "1"),
                ("heads", "32"),
            ] {
                sql = sql.replace(&format!(":{name}"), value);
            }
            database.sql(&format!("EXPLAIN (ANALYZE, BUFFERS) {sql}"))
        };
        let cold = explain("ARRAY['Cold', 'Icy']");
        assert!(cold.contains("Index Scan using task_queued_of_model"), "{cold}");
        assert!(pages(&cold) < 50, "{cold}");
        // A model of which much waits is read from its head.
        let hot = explain("ARRAY['Cold', 'Hot']");
        assert!(pages(&hot) < 300, "{hot}");
        assert_eq!(database.sql("SELECT id FROM soloist.task WHERE status = 'running'"), "1");
    }
}

#[test]
fn a_list_is_a_range_of_an_index_whatever_its_filter() {
    for (filter, index) in [
        ("", "task_listed"),
        ("AND status = 'running'", "task_in_status"),
        ("AND app = 'a' AND model = 'M1'", "task_of_model"),
        ("AND owner = 'nobody'", "task_of_owner"),
    ] {
        let sql = sql!("list").replace("-- filter", filter);
        let page = [("before", "15000"), ("limit", "50"), ("max_bytes", "8388608")];
        let plan = plan(&sql, &page);
        // All of them end at the page; which of two that are as good is taken is the planner's business.
        assert!(filter.is_empty() || filter.contains("model") || plan.contains(index), "{filter}:\n{plan}");
        assert!(plan.contains("Index Scan") && !plan.contains("Seq Scan on task"), "{filter}:\n{plan}");
    }
}

#[test]
fn a_group_commit_goes_by_the_keys_of_its_tasks() {
    let each = [
        ("apps", "ARRAY['a']"),
        ("models", "ARRAY['M1']"),
        ("ids", "ARRAY['1']"),
        ("epochs", "ARRAY[1]"),
        ("nodes", "ARRAY['node-1']"),
        ("afters", "ARRAY[0]"),
        ("runs", "ARRAY[NULL]::bigint[]"),
        ("counts", "ARRAY[1]"),
        ("epochs_after", "ARRAY[1]"),
        ("batch_places", "ARRAY[1]"),
        ("batch_firsts", "ARRAY[1]"),
        ("batch_lasts", "ARRAY[1]"),
        ("batch_epochs", "ARRAY[1]"),
        ("batch_bytes", "ARRAY[1]"),
        ("batch_events", "ARRAY['[]']"),
        ("relaxed", "false"),
        ("froms", "ARRAY['running']"),
        ("ats", "ARRAY[1]"),
        ("reasons", "ARRAY['r']"),
        ("attempts", "ARRAY[1]"),
        ("retry_counts", "ARRAY[1]"),
        ("node_losses", "ARRAY[0]"),
        ("store_losses", "ARRAY[0]"),
        ("due_ats", "ARRAY[NULL]::bigint[]"),
        ("forgets", "ARRAY[true]"),
        ("tos", "ARRAY['failed']"),
        ("final_values", "ARRAY[NULL]"),
        ("error_types", "ARRAY['E']"),
        ("error_messages", "ARRAY['m']"),
        ("error_tracebacks", "ARRAY['t']"),
    ];
    for (name, sql) in [
        ("append", sql!("append")),
        ("cancel", sql!("cancel")),
        ("requeue", sql!("requeue")),
        ("finish", sql!("finish")),
        ("rows", sql!("rows")),
    ] {
        uses(name, &plan(sql, &each), "task_app_model_id_key");
    }
    uses("epoch", &plan(sql!("epoch"), &[("tasks", "ARRAY[7]"), ("seqs", "ARRAY[9]")]), "event_batch_pkey");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_leaves_every_index_of_the_task_alone() {
    const BATCHES: u64 = 300;
    let stage = Stage::<Private>::new().await;
    let lease = stage.running("1").await;
    let counts = || {
        let counted = stage.harness.0.sql(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = 'soloist' AND relname = 'task'",
        );
        let (updates, in_place) = counted.split_once('|').unwrap();
        (updates.parse::<u64>().unwrap(), in_place.parse::<u64>().unwrap())
    };
    for n in 0..BATCHES {
        stage.append(&lease, n * 3, 3).await;
    }
    // A connection tells what it has done when it ends.
    stage.harness.cut();
    let begun = Instant::now();
    let (updates, in_place) = loop {
        let (updates, in_place) = counts();
        if updates > BATCHES || begun.elapsed() > Duration::from_secs(10) {
            break (updates, in_place);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!("{in_place} of {updates} updates in place");
    // One was the claim.
    assert!(updates > BATCHES && in_place + 10 >= updates, "{in_place} of {updates} updates in place");
}

/// How many rows the scans of a plan have looked at.
fn rows(plan: &str) -> u64 {
    let number = |line: &str, name: &str| -> Option<u64> {
        let digits = line.split(name).nth(1)?;
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let (mut sum, mut loops) = (0, 1);
    for line in plan.lines() {
        if let Some(times) = number(line, "loops=") {
            loops = times;
            if line.contains("Scan") {
                sum += number(line.split("actual").nth(1).unwrap_or_default(), "rows=").unwrap_or_default()
                    * loops;
            }
        }
        sum += number(line, "Rows Removed by Filter: ").unwrap_or_default() * loops;
    }
    sum
}

/// Places are those of the queue; `due` where they wait for their time.
fn queue_of(model: &str, count: u32, due: &str) -> String {
    format!(
        "INSERT INTO soloist.task (app, model, id, status, run, place, due_at, created_at, updated_at)
         SELECT 'a', '{model}', place::text, 'queued', 1, place, {due}, 0, 0
           FROM (SELECT nextval('soloist.queue_place') AS place FROM generate_series(1, {count})) AS made;"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_costs_as_much_among_many_that_wait_as_among_few() {
    let (few, many, late) =
        (queue_of("M", 100, "NULL"), queue_of("M", 9_900, "NULL"), queue_of("M", 10_000, "99"));
    let bounds = "INSERT INTO soloist.model_slot (app, model, slot) SELECT 'a', 'M', n FROM generate_series(1, 10) AS n;";
    for max_totals in ["ARRAY[NULL]::integer[]", "ARRAY[10]"] {
        // Also where the database does not know yet how many wait.
        for known in ["ANALYZE soloist.task", "SELECT 1"] {
            let stage = Stage::<Private>::new().await;
            let database = &stage.harness.0;
            let node =
                "INSERT INTO soloist.node (id, joined_at, lease_us, lease_until_us) VALUES ('n', 0, 1, 1);";
            database.sql(&format!("{node}{bounds}ALTER TABLE soloist.task SET (autovacuum_enabled = false)"));
            let cost = |waiting: &str| {
                database.sql(&format!("{waiting}{known}"));
                let mut sql = sql!("claim_queued").to_owned();
                for (name, value) in [
                    ("apps", "ARRAY['a']"),
                    ("models", "ARRAY['M']"),
                    ("max_totals", max_totals),
                    ("node", "'n'"),
                    ("claim_id", "7"),
                    ("at", "1"),
                    ("heads", "32"),
                ] {
                    sql = sql.replace(&format!(":{name}"), value);
                }
                let plan = database.sql(&format!("EXPLAIN (ANALYZE, BUFFERS) {sql}"));
                assert!(rows(&plan) > 30 && plan.contains("task_queued_of_model"), "{plan}");
                (rows(&plan), pages(&plan))
            };
            let (among_few, among_many, beside_late) = (cost(&few), cost(&many), cost(&late));
            println!("{max_totals}, {known}: {among_few:?}, {among_many:?}, {beside_late:?} rows and pages");
            for (rows, _) in [among_many, beside_late] {
                assert!(
                    rows * 2 <= among_few.0 * 3 && rows < 250,
                    "{among_few:?}, {among_many:?}, {beside_late:?}"
                );
            }
            assert_eq!(database.sql("SELECT count(*) FROM soloist.task WHERE status = 'running'"), "3");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_the_queue_is_counted_among_those_of_its_model_alone() {
    let stage = Stage::<Private>::new().await;
    let database = &stage.harness.0;
    let queue = [queue_of("Other", 20_000, "NULL"), queue_of("M", 300, "NULL"), queue_of("M", 5_000, "99")];
    database.sql(&format!("{}ANALYZE soloist.task", queue.concat()));
    let mut sql = sql!("position").to_owned();
    for (name, value) in [("app", "'a'"), ("model", "'M'"), ("id", "'20200'"), ("max", "100001")] {
        sql = sql.replace(&format!(":{name}"), value);
    }
    assert_eq!(database.sql(&sql), "200");
    let plan = database.sql(&format!("EXPLAIN (ANALYZE, BUFFERS) {sql}"));
    assert!(plan.contains("task_queued_of_model") && pages(&plan) < 50, "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_slots_uses_their_key() {
    let stage = Stage::<Private>::new().await;
    let database = &stage.harness.0;
    database.sql(
        "INSERT INTO soloist.task (app, model, id, status, run, epoch, created_at, updated_at)
         SELECT 'a', 'Done', n::text, 'completed', 1, 1, 0, 0 FROM generate_series(1, 20000) AS n;
         INSERT INTO soloist.model_slot
         SELECT 'a', 'M' || n % 100, n / 100, n, 1 FROM generate_series(100, 20000) AS n;
         INSERT INTO soloist.node (id, joined_at, lease_us, lease_until_us) VALUES ('n', 0, 1, 1);
         ANALYZE",
    );
    let waiting = queue_of("M1", 10, "NULL");
    database.sql(&waiting);
    let mut sql = sql!("claim_queued").to_owned();
    for (name, value) in [
        ("apps", "ARRAY['a']"),
        ("models", "ARRAY['M1']"),
        ("max_totals", "ARRAY[100]"),
        ("node", "'n'"),
        ("claim_id", "7"),
        ("at", "1"),
        ("heads", "32"),
    ] {
        sql = sql.replace(&format!(":{name}"), value);
    }
    let plan = database.sql(&format!("EXPLAIN (ANALYZE, BUFFERS) {sql}"));
    assert!(!plan.contains("Seq Scan on model_slot") && !plan.contains("Seq Scan on task"), "{plan}");
    assert!(rows(&plan) < 250, "{plan}");
    assert_eq!(
        database
            .sql("SELECT slot FROM soloist.model_slot JOIN soloist.task ON number = task WHERE node = 'n'"),
        "1"
    );
}
