//! Judges a database and what was told about it by the promises S1 to S8, and by nothing else.
//!
//! It shares no code with the product: it reads the file by SQL of its own, and holds what is on record against what
//! starts and viewers were told. A promise that is broken is a panic that names the promise and the task.
//!
//! It judges work that is not retried (`max_retries` 0): then a run is one attempt, and every rise of an epoch shows in
//! the log.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use rusqlite::{Connection, OpenFlags};

/// What the outside world was told of one task.
#[derive(Debug, Default, Clone)]
pub struct Told {
    /// The runs of the starts that were told `started: true`.
    pub won: Vec<u64>,
    /// The runs of the starts that were told `started: false`.
    pub lost: Vec<u64>,
    /// What each viewer saw, over all of its connections: the cursor that it began after, then the ids that came.
    pub viewers: Vec<(u64, Vec<u64>)>,
    /// An event as some viewer was shown it, by its id: type and data.
    pub shown: HashMap<u64, (String, String)>,
}

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    seq: u64,
    run: u64,
    epoch: u64,
    kind: String,
    data: String,
}

/// What a check has seen, for people.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub tasks: u64,
    pub events: u64,
    pub runs: u64,
    /// Runs that ended with the process that had them.
    pub node_lost: u64,
}

struct Task {
    name: String,
    status: String,
    run: u64,
    epoch: u64,
    last_seq: u64,
    final_value: Option<String>,
    error_type: Option<String>,
}

/// Whether runs may be under way in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Nothing runs any more.
    Rest,
    /// A moment in the middle of everything.
    AnyMoment,
}

/// Checks a whole file; `told` is by key.
///
/// # Panics
/// Where a promise is broken.
pub fn check(file: &Path, at: At, told: &BTreeMap<String, Told>) -> Summary {
    let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    // One moment for all queries.
    conn.execute_batch("BEGIN").unwrap();
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok", "the file is damaged");
    let strays: u64 = conn
        .query_row(
            "SELECT count(*) FROM event WHERE task NOT IN (SELECT number FROM task UNION SELECT task FROM deleted)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(strays, 0, "S3: events of no task");
    let mut summary = Summary::default();
    let mut tasks = conn
        .prepare("SELECT number, app || '/' || model || '/' || id, status, run, epoch, last_seq, final_value, error_type FROM task")
        .unwrap();
    let mut rows = tasks.query([]).unwrap();
    let mut known = 0;
    while let Some(row) = rows.next().unwrap() {
        let task = Task {
            name: row.get(1).unwrap(),
            status: row.get(2).unwrap(),
            run: row.get(3).unwrap(),
            epoch: row.get(4).unwrap(),
            last_seq: row.get(5).unwrap(),
            final_value: row.get(6).unwrap(),
            error_type: row.get(7).unwrap(),
        };
        let log = log(&conn, row.get(0).unwrap());
        let node_lost = record(&task, &log, at);
        if let Some(told) = told.get(&task.name) {
            known += 1;
            starts(&task, told);
            viewers(&task, &log, told);
        }
        summary.tasks += 1;
        summary.events += log.len() as u64;
        summary.runs += task.run;
        summary.node_lost += node_lost;
    }
    assert_eq!(known, told.len(), "tasks that were told of are not on record");
    summary
}

fn log(conn: &Connection, number: i64) -> Vec<Row> {
    let sql = "SELECT seq, run, epoch, type, data FROM event WHERE task = ? ORDER BY seq";
    let mut query = conn.prepare_cached(sql).unwrap();
    let rows = query.query_map([number], |row| {
        Ok(Row {
            seq: row.get(0)?,
            run: row.get(1)?,
            epoch: row.get(2)?,
            kind: row.get(3)?,
            data: row.get(4)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn is_terminal(kind: &str) -> bool {
    matches!(kind, "complete" | "error" | "cancelled")
}

/// The row against its log. Returns how many runs ended with their node.
fn record(task: &Task, log: &[Row], at: At) -> u64 {
    let Task { name, status, .. } = task;
    assert!(log.iter().map(|row| row.seq).eq(1..=task.last_seq), "S3: the log of {name} is not dense");
    let is_active = matches!(status.as_str(), "queued" | "running" | "cancelling");
    assert!(at == At::AnyMoment || !is_active, "{name} is {status}, and nothing runs any more");

    let (mut epoch, mut node_lost) = (0, 0);
    for run in 1..=task.run {
        let events: Vec<&Row> = log.iter().filter(|row| row.run == run).collect();
        let ends = events.iter().filter(|row| is_terminal(&row.kind)).count();
        if run == task.run && is_active {
            assert_eq!(ends, 0, "S7: run {run} of {name} is {status}, and has a terminal event");
            let held = u64::from(status != "queued");
            assert!(events.iter().all(|row| row.epoch == epoch + 1), "S6: a stranger wrote for {name}");
            assert_eq!(task.epoch, epoch + held, "S2: the epoch of {name}");
            continue;
        }
        assert_eq!(ends, 1, "S7: run {run} of {name} has {ends} terminal events");
        let (last, before) = events.split_last().expect("it has a terminal event");
        assert!(is_terminal(&last.kind), "S4: run {run} of {name} goes on after its terminal event");
        assert!(before.iter().all(|row| row.epoch == epoch + 1), "S2, S6: run {run} of {name}: {before:?}");
        let lost = last.kind == "error" && last.data.contains("\"NodeLost\"");
        let dropped = last.kind == "cancelled" && last.epoch == epoch + 2;
        let rise = if lost || dropped { 2 } else { 1 };
        assert_eq!(last.epoch, epoch + rise, "S2: run {run} of {name} ended under another epoch");
        epoch += rise;
        node_lost += u64::from(lost);
    }
    if !is_active {
        assert_eq!(task.epoch, epoch, "S2: the epoch of {name}");
        let ending = log.last().filter(|row| is_terminal(&row.kind)).map(|row| row.kind.as_str());
        let wanted = match status.as_str() {
            "completed" => Some("complete"),
            "failed" => Some("error"),
            "cancelled" => Some("cancelled"),
            _ => None,
        };
        assert_eq!(ending, wanted, "S7: status and terminal event of {name} disagree");
        assert_eq!(status == "failed", task.error_type.is_some(), "S7: {name}");
        assert_eq!(status == "completed", task.final_value.is_some(), "S7: {name}");
    }
    let ordered = log.windows(2).all(|pair| pair[0].run <= pair[1].run && pair[0].epoch <= pair[1].epoch);
    assert!(ordered, "S4, S6: the log of {name} goes back");
    node_lost
}

/// What starts were told against the row.
fn starts(task: &Task, told: &Told) {
    let mut won = told.won.clone();
    won.sort_unstable();
    let all = won.len();
    won.dedup();
    assert_eq!(won.len(), all, "S1: two starts of {} were told that they had won one run", task.name);
    let known = won.iter().chain(&told.lost).all(|run| (1..=task.run).contains(run));
    assert!(known, "S1: a start of {} was told of a run that is not on record: {told:?}", task.name);
}

/// What viewers saw against the log.
fn viewers(task: &Task, log: &[Row], told: &Told) {
    for (after, ids) in &told.viewers {
        let wanted = after + 1..=after + ids.len() as u64;
        assert!(
            ids.iter().copied().eq(wanted),
            "S5: a viewer of {} saw a hole or a double: {ids:?}",
            task.name
        );
        let last = ids.last().copied().unwrap_or_default();
        assert!(last <= task.last_seq, "S3: a viewer of {} saw event {last}, which is gone", task.name);
    }
    for (seq, (kind, data)) in &told.shown {
        let row = usize::try_from(seq - 1).ok().and_then(|at| log.get(at));
        let row = row.unwrap_or_else(|| panic!("S3: event {seq} of {} was shown and is gone", task.name));
        assert_eq!((&row.kind, &row.data), (kind, data), "S3: event {seq} of {} has changed", task.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: u64, run: u64, epoch: u64, kind: &str) -> Row {
        let data = if kind == "error" { r#"{"error_type":"NodeLost"}"# } else { "{}" };
        Row { seq, run, epoch, kind: kind.to_owned(), data: data.to_owned() }
    }

    fn task(status: &str, run: u64, epoch: u64, last_seq: u64) -> Task {
        Task {
            name: "a/B/1".to_owned(),
            status: status.to_owned(),
            run,
            epoch,
            last_seq,
            final_value: (status == "completed").then(|| "null".to_owned()),
            error_type: (status == "failed").then(|| "NodeLost".to_owned()),
        }
    }

    /// A run that was lost with its node, and one that completed.
    fn sound() -> Vec<Row> {
        vec![
            row(1, 1, 1, "progress"),
            row(2, 1, 2, "error"),
            row(3, 2, 3, "progress"),
            row(4, 2, 3, "complete"),
        ]
    }

    fn finds(what: &str, check: impl FnOnce() + std::panic::UnwindSafe) {
        let said = std::panic::catch_unwind(check).expect_err(what);
        let said = said.downcast_ref::<String>().expect("a text");
        assert!(said.contains(&format!("{what}: ")) || said.starts_with(what), "{what}: {said}");
    }

    #[test]
    fn the_checker_accepts_what_is_sound_and_names_what_is_broken() {
        assert_eq!(record(&task("completed", 2, 3, 4), &sound(), At::Rest), 1);
        let broken = |change: fn(&mut Vec<Row>)| {
            let mut log = sound();
            change(&mut log);
            move || assert_eq!(record(&task("completed", 2, 3, 4), &log, At::Rest), 1)
        };
        finds("S3", broken(|log| drop(log.remove(2))));
        finds("S7", broken(|log| log[3].kind = "progress".to_owned()));
        finds("S7", broken(|log| log[2].kind = "complete".to_owned()));
        finds("S4", broken(|log| (log[2].kind, log[3].kind) = ("complete".into(), "progress".into())));
        finds("S2, S6", broken(|log| log[2].epoch = 1));
        finds("S2", broken(|log| log[3].epoch = 4));
        finds("S7", || assert_eq!(record(&task("failed", 2, 3, 4), &sound(), At::Rest), 1));
        finds("a/B/1 is running", || assert_eq!(record(&task("running", 3, 4, 4), &sound(), At::Rest), 1));
        assert_eq!(record(&task("running", 3, 4, 4), &sound(), At::AnyMoment), 1);
    }

    #[test]
    fn what_was_told_is_held_against_the_record() {
        let task = task("completed", 2, 3, 4);
        let told = |change: fn(&mut Told)| {
            let mut told = Told { won: vec![1, 2], lost: vec![2], ..Told::default() };
            told.viewers = vec![(0, vec![1, 2, 3, 4]), (2, vec![3, 4])];
            told.shown.insert(3, ("progress".to_owned(), "{}".to_owned()));
            change(&mut told);
            told
        };
        let check = |told: &Told| {
            starts(&task, told);
            viewers(&task, &sound(), told);
        };
        check(&told(|_| {}));
        for (what, told) in [
            ("S1", told(|told| told.won.push(2))),
            ("S1", told(|told| told.lost.push(3))),
            ("S5", told(|told| told.viewers[0].1 = vec![1, 2, 4])),
            ("S5", told(|told| told.viewers[0].1 = vec![1, 2, 2])),
            ("S3", told(|told| told.viewers[0].1 = vec![1, 2, 3, 4, 5])),
            ("S3", told(|told| told.shown.get_mut(&3).unwrap().1 = "{ }".to_owned())),
        ] {
            finds(what, std::panic::AssertUnwindSafe(|| check(&told)));
        }
    }
}
