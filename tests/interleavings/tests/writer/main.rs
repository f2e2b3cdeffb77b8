//! The one writer of a SQLite file, from its own source, under schedulers that choose who goes on at each step.
//!
//! SQLite is the real one, in memory, with a second connection that sees what is committed.

#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../../../../crates/sqlite/src/error.rs"]
mod error;
#[path = "../it/schedules.rs"]
mod schedules;
#[path = "../../../../crates/sqlite/src/writer.rs"]
mod writer;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use interleaved::{pause, time};
use rusqlite::Connection;
use shuttle::rand::{Rng as _, thread_rng};
use soloist::store::StoreError;
use tokio::task::spawn;

use crate::{
    error::SqlResult,
    lock::Turns,
    schedules::explore,
    writer::{Flush, Writer},
};

/// The turnstile, with one process in it: its turn comes, and others go on before it does.
mod lock {
    use std::time::Duration;

    pub(crate) struct Turns;

    /// Others go on before it is passed on, too.
    pub(crate) struct Turn;

    impl Drop for Turn {
        fn drop(&mut self) {
            interleaved::switch();
        }
    }

    impl Turns {
        pub(crate) fn take(&self, _most: Duration) -> Turn {
            interleaved::switch();
            Turn
        }
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("the writer has ended".to_owned())
}

/// A file in memory, whose name nobody has used, and who reads it.
fn open() -> (Writer, Connection) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name =
        format!("file:interleavings-{}?mode=memory&cache=shared", NUMBER.fetch_add(1, Ordering::Relaxed));
    let conn = Connection::open(&name).unwrap();
    conn.execute_batch(
        "CREATE TABLE t (place INTEGER PRIMARY KEY, caller INTEGER, n INTEGER, UNIQUE (caller, n)) STRICT",
    )
    .unwrap();
    (Writer::spawn(conn, Turns).unwrap(), Connection::open(name).unwrap())
}

fn rows(conn: &Connection) -> Vec<(i64, i64)> {
    let mut all = conn.prepare_cached("SELECT caller, n FROM t ORDER BY place").unwrap();
    all.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

#[derive(Clone, Default)]
struct Carried(Arc<AtomicUsize>);

/// Inserts, counts itself, and may take a while.
fn insert(caller: i64, n: i64, carried: &Carried) -> impl Fn(&Connection) -> SqlResult<()> + Send + 'static {
    let (carried, takes_long) = (carried.clone(), thread_rng().gen_range(0..3) == 0);
    move |conn| {
        carried.0.fetch_add(1, Ordering::SeqCst);
        if takes_long {
            // As long as a group may take, so that it is cut off here.
            time::pass(Duration::from_millis(5));
        }
        conn.execute("INSERT INTO t (caller, n) VALUES (?1, ?2)", [caller, n])?;
        Ok(())
    }
}

#[test]
fn every_request_is_carried_out_once_and_answered_after_its_commit_in_order() {
    explore("group commit", 1_500, || async {
        let (writer, reader) = open();
        let (writer, reader) = (Arc::new(writer), Arc::new(std::sync::Mutex::new(reader)));
        let carried = Carried::default();
        let callers: Vec<_> = (0..3)
            .map(|caller| {
                let (writer, reader, carried) = (writer.clone(), reader.clone(), carried.clone());
                spawn(async move {
                    for n in 0..3 {
                        let flush = if n == 1 { Flush::Later } else { Flush::Now };
                        writer.write_with(flush, 1, insert(caller, n, &carried)).await.unwrap();
                        let committed = rows(&reader.lock().unwrap());
                        assert!(committed.contains(&(caller, n)), "answered, and not committed");
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let mut by_caller = BTreeMap::<_, Vec<_>>::new();
        rows(&reader.lock().unwrap())
            .into_iter()
            .for_each(|(caller, n)| by_caller.entry(caller).or_default().push(n));
        assert_eq!(by_caller.into_values().collect::<Vec<_>>(), vec![vec![0, 1, 2]; 3], "each in its order");
        assert_eq!(carried.0.load(Ordering::SeqCst), 9, "each once");
    });
}

#[test]
fn a_request_that_fails_or_breaks_fails_alone() {
    explore("group commit with failures", 1_500, || async {
        let (writer, reader) = open();
        let writer = Arc::new(writer);
        let carried = Carried::default();
        writer.write(1, insert(0, 0, &carried)).await.unwrap();
        let calls: Vec<_> = (0..4)
            .map(|call| {
                let (writer, carried) = (writer.clone(), carried.clone());
                // The first and the third insert what is there, the first after something else.
                spawn(async move {
                    let act = insert(if call % 2 == 0 { 0 } else { call }, 0, &carried);
                    let broken = move |conn: &Connection| {
                        conn.execute("INSERT INTO t (caller, n) VALUES (9, 9)", [])?;
                        act(conn)
                    };
                    if call == 0 {
                        writer.write(1, broken).await
                    } else {
                        writer.write(1, insert(call % 2 * call, 0, &carried)).await
                    }
                })
            })
            .collect();
        for (call, answer) in calls.into_iter().enumerate() {
            let answer = answer.await.unwrap();
            assert_eq!(answer.is_ok(), call % 2 == 1, "{call}: {answer:?}");
        }
        let mut rows = rows(&reader);
        rows.sort_unstable();
        assert_eq!(rows, [(0, 0), (1, 0), (3, 0)], "what failed is undone whole");
        // A group in which one fails is carried out again, and the first time counts for nothing.
        assert!(carried.0.load(Ordering::SeqCst) >= 5, "each at least once");
    });
}

#[test]
fn the_writer_ends_after_all_that_it_has_taken_whoever_has_gone() {
    explore("group commit that ends", 1_500, || async {
        let (writer, reader) = open();
        let writer = Arc::new(writer);
        let carried = Carried::default();
        let (mut gone, mut stay) = (Vec::new(), Vec::new());
        for caller in 0..4 {
            let (writer, carried) = (writer.clone(), carried.clone());
            let call = spawn(async move { writer.write(1, insert(caller, 0, &carried)).await });
            if caller % 2 == 0 { gone.push((caller, call)) } else { stay.push((caller, call)) }
        }
        for (_, call) in &gone {
            pause().await;
            call.abort();
        }
        let mut wanted = Vec::new();
        for (caller, call) in stay {
            call.await.unwrap().unwrap();
            wanted.push((caller, 0));
        }
        for (caller, call) in gone {
            // It has gone, and has let go of the writer.
            if call.await.is_ok() {
                wanted.push((caller, 0));
            }
        }
        drop(Arc::into_inner(writer).expect("nobody else has it"));
        let rows = rows(&reader);
        assert!(wanted.iter().all(|row| rows.contains(row)), "{wanted:?} {rows:?}");
        assert_eq!(carried.0.load(Ordering::SeqCst), rows.len(), "what was carried out is on record");
    });
}
