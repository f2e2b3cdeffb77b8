//! Judges what is on record, and what was told about it, by the promises S1 to S8 and by nothing else.
//!
//! It shares no code with the product: it reads a store by SQL of its own, and holds what is on record against what
//! starts and viewers were told. A promise that is broken is a panic that names the promise and the task.
//!
//! Decides: what a log may look like. A run is one attempt or several, with a `retry` event of the system between two;
//! an epoch rises by one with each claim, and once more where the attempt before was lost other than by its own act.

mod postgres;
mod sqlite;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

/// What the outside world was told of one task.
#[derive(Debug, Default, Clone)]
pub struct Told {
    /// The runs of the starts that were told `started: true`: all there were, of this task.
    pub won: Vec<u64>,
    /// The runs of the starts that were told `started: false`.
    pub lost: Vec<u64>,
    /// Its viewers.
    pub viewers: Vec<Watched>,
}

/// What one viewer saw, over all of its connections, until it was told that there is no more.
#[derive(Debug, Default, Clone)]
pub struct Watched {
    /// The cursor that it began after; none where it named none, and so was to see a run from its first event.
    pub after: Option<u64>,
    /// The ids that came, in the order in which they came.
    pub ids: Vec<u64>,
    /// Events as it was shown them, by id: type and data. May be empty where nobody kept them.
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
    /// Attempts that ended with the process that had them.
    pub node_lost: u64,
    /// Attempts that were followed by another one of the same run.
    pub retried: u64,
    /// Viewers whose events were held against the log.
    pub viewers: u64,
}

#[derive(Debug)]
struct Task {
    name: String,
    status: String,
    run: u64,
    attempt: u64,
    retry_count: u64,
    epoch: u64,
    node: Option<String>,
    last_seq: u64,
    final_value: Option<String>,
    error_type: Option<String>,
}

/// Whether runs may be under way in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Nothing runs any more.
    Rest,
    /// A moment in the middle of everything.
    AnyMoment,
}

/// Checks a whole SQLite file; `told` is by key.
///
/// # Panics
/// Where a promise is broken.
pub fn check(file: &Path, at: At, told: &BTreeMap<String, Told>) -> Summary {
    judge(&sqlite::read(file), at, told)
}

/// Checks a whole PostgreSQL database; `told` is by key.
///
/// # Panics
/// Where a promise is broken.
pub async fn check_postgres(url: &str, at: At, told: &BTreeMap<String, Told>) -> Summary {
    judge(&postgres::read(url).await, at, told)
}

fn judge(tasks: &[(Task, Vec<Row>)], at: At, told: &BTreeMap<String, Told>) -> Summary {
    let mut summary = Summary::default();
    let mut known = 0;
    for (task, log) in tasks {
        let _shown = ShownIfBroken(task, log);
        record(task, log, at, &mut summary);
        if let Some(told) = told.get(&task.name) {
            known += 1;
            starts(task, told);
            for viewer in &told.viewers {
                watched(task, log, viewer);
            }
            summary.viewers += told.viewers.len() as u64;
        }
        summary.tasks += 1;
        summary.events += log.len() as u64;
        summary.runs += task.run;
    }
    assert_eq!(known, told.len(), "tasks that were told of are not on record");
    summary
}

/// Prints what is on record of a task where a promise about it is broken.
struct ShownIfBroken<'a>(&'a Task, &'a [Row]);

impl Drop for ShownIfBroken<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(task, log) = self;
            eprintln!("{task:?}");
            for row in log.iter().rev().take(40).rev() {
                eprintln!("{row:?}");
            }
        }
    }
}

fn is_terminal(kind: &str) -> bool {
    matches!(kind, "complete" | "error" | "cancelled")
}

/// Whether an event of the system says that the attempt was lost other than by its own act.
fn is_loss(row: &Row) -> bool {
    ["NodeLost", "StoreLost", "Drained"]
        .iter()
        .any(|why| row.data.contains(&format!("\"error_type\":\"{why}\"")))
}

/// Whether what was lost costs no retry, after what was lost before in the same run: a drain, and the first outage.
fn is_uncounted(row: &Row, before: &[&Row]) -> bool {
    let is = |row: &Row, why: &str| row.data.contains(&format!("\"error_type\":\"{why}\""));
    let is_outage = |row: &Row| is_retry(row) && is(row, "StoreLost");
    is(row, "Drained") || (is_outage(row) && !before.iter().any(|row| is_outage(row)))
}

fn is_retry(row: &Row) -> bool {
    row.kind == "retry" && row.data.contains("\"_system\":true")
}

/// The row against its log.
fn record(task: &Task, log: &[Row], at: At, summary: &mut Summary) {
    let Task { name, status, .. } = task;
    assert!(log.iter().map(|row| row.seq).eq(1..=task.last_seq), "S3: the log of {name} is not dense");
    let ordered = log.windows(2).all(|pair| pair[0].run <= pair[1].run && pair[0].epoch <= pair[1].epoch);
    assert!(ordered, "S4, S6: the log of {name} goes back");
    let is_active = matches!(status.as_str(), "queued" | "running" | "cancelling");
    assert!(at == At::AnyMoment || !is_active, "{name} is {status}, and nothing runs any more");

    let is_held = matches!(status.as_str(), "running" | "cancelling");
    assert_eq!(task.node.is_some(), is_held, "S1: {name} is {status}, and its node is {:?}", task.node);

    // What the row may have been before the next claim. An event of a holder does not tell whether it has let go by its
    // own act where it was asked to stop: then what follows tells.
    let mut epochs = BTreeSet::from([0]);
    let (mut retries, mut counted) = (0, 0);
    for run in 1..=task.run {
        let events: Vec<&Row> = log.iter().filter(|row| row.run == run).collect();
        let is_under_way = run == task.run && is_active;
        let ends = events.iter().filter(|row| is_terminal(&row.kind)).count();
        assert_eq!(ends, usize::from(!is_under_way), "S7: run {run} of {name} has {ends} terminal events");
        (retries, counted) = (0, 0);
        for (n, row) in events.iter().enumerate() {
            let is_last = n + 1 == events.len();
            // A loss may be written by its holder itself, or by who took the run from it.
            let is_end = is_retry(row) || is_terminal(&row.kind);
            // Nobody holds a run that waits in the queue, and its cancel takes it from nobody.
            let is_from_queue =
                row.kind == "cancelled" && n.checked_sub(1).is_none_or(|before| is_retry(events[before]));
            epochs.retain(|epoch| {
                row.epoch == epoch + 1
                    || (is_end && row.epoch == epoch + 2)
                    || (is_from_queue && row.epoch == *epoch)
            });
            assert!(
                !epochs.is_empty(),
                "S2, S6: event {} of run {run} of {name} is of epoch {}, after another epoch",
                row.seq,
                row.epoch
            );
            if is_terminal(&row.kind) {
                assert!(is_last, "S4: run {run} of {name} goes on after its terminal event");
            } else if !is_retry(row) {
                continue;
            }
            let (lost, is_cancel) = (is_loss(row), row.kind == "cancelled");
            epochs.retain(|epoch| row.epoch == epoch + 1 || lost || is_cancel);
            assert!(!epochs.is_empty(), "S2: {name} lost its holder for no reason");
            for epoch in std::mem::take(&mut epochs) {
                if row.epoch == epoch {
                    epochs.insert(epoch);
                    continue;
                }
                let by_another = row.epoch == epoch + 2;
                if lost || is_cancel {
                    epochs.insert(epoch + 2);
                }
                if !(lost || by_another) {
                    epochs.insert(epoch + 1);
                }
            }
            summary.node_lost += u64::from(lost);
            if is_retry(row) {
                summary.retried += 1;
                retries += 1;
                counted += u64::from(!is_uncounted(row, &events[..n]));
            }
        }
    }
    assert!(
        task.epoch.checked_sub(u64::from(is_held)).is_some_and(|epoch| epochs.contains(&epoch)),
        "S2: the epoch of {name} is {}, where its log says {epochs:?}",
        task.epoch
    );
    let attempts = if task.run == 0 { 0 } else { retries + 1 };
    assert_eq!((task.attempt, task.retry_count), (attempts, counted), "S7: attempts and retries of {name}");
    if !is_active {
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
}

/// What starts were told against the row.
fn starts(task: &Task, told: &Told) {
    let won: BTreeSet<u64> = told.won.iter().copied().collect();
    assert_eq!(
        won.len(),
        told.won.len(),
        "S1: two starts of {} were told that they had won one run",
        task.name
    );
    let known = won.iter().chain(&told.lost).all(|run| (1..=task.run).contains(run));
    assert!(known, "S1: a start of {} was told of a run that is not on record: {told:?}", task.name);
    assert!(
        won.iter().copied().eq(1..=task.run),
        "S1: {} has {} runs, and starts were told that they had won {won:?}",
        task.name,
        task.run
    );
}

/// What a viewer saw against the log.
fn watched(task: &Task, log: &[Row], viewer: &Watched) {
    let Watched { after, ids, shown } = viewer;
    let name = &task.name;
    let row = |seq: u64| {
        let row = usize::try_from(seq).ok().and_then(|seq| log.get(seq.checked_sub(1)?));
        row.unwrap_or_else(|| panic!("S3: event {seq} of {name} was shown and is gone"))
    };
    let (Some(&first), Some(&last)) = (ids.first(), ids.last()) else {
        let after = after.unwrap_or_default();
        assert!(
            after > 0 && is_terminal(&row(after).kind),
            "S5: a viewer of {name} saw nothing, not even an end"
        );
        return;
    };
    match after {
        Some(after) => assert_eq!(first, after + 1, "S5: a viewer of {name} did not go on after its cursor"),
        None => assert!(
            log.iter().find(|other| other.run == row(first).run).is_some_and(|begin| begin.seq == first),
            "S5: a viewer of {name} began with event {first}, in the middle of a run"
        ),
    }
    assert!(ids.iter().copied().eq(first..=last), "S5: a viewer of {name} saw a hole or a double: {ids:?}");
    let ends: Vec<u64> = ids.iter().copied().filter(|seq| is_terminal(&row(*seq).kind)).collect();
    assert_eq!(ends, [last], "S5: a viewer of {name} was told of another end than the log has");
    for (seq, (kind, data)) in shown {
        let row = row(*seq);
        assert_eq!((&row.kind, &row.data), (kind, data), "S3: event {seq} of {name} has changed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: u64, run: u64, epoch: u64, kind: &str) -> Row {
        let data = match kind {
            "error" => r#"{"error_type":"NodeLost"}"#,
            "retry" => r#"{"error_type":"NodeLost","_system":true}"#,
            _ => "{}",
        };
        Row { seq, run, epoch, kind: kind.to_owned(), data: data.to_owned() }
    }

    fn task(status: &str, run: u64, epoch: u64, last_seq: u64) -> Task {
        Task {
            name: "a/B/1".to_owned(),
            status: status.to_owned(),
            run,
            attempt: 1,
            retry_count: 0,
            epoch,
            node: matches!(status, "running" | "cancelling").then(|| "node-1".to_owned()),
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

    /// A run whose first attempt was lost with its node, and whose second failed by itself and was tried again.
    fn retried() -> Vec<Row> {
        let failed = Row { data: r#"{"error_type":"E","_system":true}"#.to_owned(), ..row(3, 1, 3, "retry") };
        vec![row(1, 1, 1, "progress"), row(2, 1, 2, "retry"), failed, row(4, 1, 4, "complete")]
    }

    fn finds(what: &str, check: impl FnOnce()) {
        let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).expect_err(what);
        let said = said.downcast_ref::<String>().expect("a text");
        assert!(said.contains(&format!("{what}: ")) || said.starts_with(what), "{what}: {said}");
    }

    fn seen(_: Summary) {}

    fn judged(task: &Task, log: &[Row], at: At) -> Summary {
        let mut summary = Summary::default();
        record(task, log, at, &mut summary);
        summary
    }

    #[test]
    fn the_checker_accepts_what_is_sound_and_names_what_is_broken() {
        assert_eq!(judged(&task("completed", 2, 3, 4), &sound(), At::Rest).node_lost, 1);
        let broken = |change: fn(&mut Vec<Row>)| {
            let mut log = sound();
            change(&mut log);
            move || seen(judged(&task("completed", 2, 3, 4), &log, At::Rest))
        };
        finds("S3", broken(|log| drop(log.remove(2))));
        finds("S7", broken(|log| log[3].kind = "progress".to_owned()));
        finds("S7", broken(|log| log[2].kind = "complete".to_owned()));
        finds("S4", broken(|log| (log[2].kind, log[3].kind) = ("complete".into(), "progress".into())));
        finds("S4, S6", broken(|log| log[2].epoch = 1));
        finds("S2, S6", broken(|log| (log[2].epoch, log[3].epoch) = (2, 2)));
        finds("S2", broken(|log| log[3].epoch = 4));
        finds("S2", broken(|log| log[1].data = "{}".to_owned()));
        finds("S7", || seen(judged(&task("failed", 2, 3, 4), &sound(), At::Rest)));
        finds("a/B/1 is running", || seen(judged(&task("running", 3, 4, 4), &sound(), At::Rest)));
        assert_eq!(judged(&task("running", 3, 4, 4), &sound(), At::AnyMoment).node_lost, 1);
    }

    #[test]
    fn attempts_of_one_run_have_epochs_of_their_own() {
        let task = |status, run, epoch, last_seq| Task {
            attempt: 3,
            retry_count: 2,
            ..task(status, run, epoch, last_seq)
        };
        let summary = judged(&task("completed", 1, 4, 4), &retried(), At::Rest);
        assert_eq!((summary.node_lost, summary.retried), (1, 2));
        let broken = |change: fn(&mut Vec<Row>)| {
            let mut log = retried();
            change(&mut log);
            move || seen(judged(&task("completed", 1, 4, 4), &log, At::Rest))
        };
        // The zombie of the first attempt, behind the takeover; an attempt that was claimed twice.
        finds("S2, S6", broken(|log| log[2] = row(3, 1, 2, "progress")));
        finds("S2", broken(|log| log[3].epoch = 5));
        finds("S2", || seen(judged(&task("completed", 1, 5, 4), &retried(), At::Rest)));
        // Work may name its own events so.
        finds("S2, S6", broken(|log| log[1].data = r#"{"error_type":"NodeLost"}"#.to_owned()));
        assert_eq!(judged(&task("queued", 1, 3, 3), &retried()[..3], At::AnyMoment).retried, 2);
        assert_eq!(judged(&task("running", 1, 4, 3), &retried()[..3], At::AnyMoment).retried, 2);
        finds("S2", || seen(judged(&task("queued", 1, 4, 3), &retried()[..3], At::AnyMoment)));
        let attempt = Task { attempt: 2, ..task("completed", 1, 4, 4) };
        finds("S7", || seen(judged(&attempt, &retried(), At::Rest)));
        let retry_count = Task { retry_count: 1, ..task("completed", 1, 4, 4) };
        finds("S7", || seen(judged(&retry_count, &retried(), At::Rest)));
        let node = Task { node: Some("node-1".to_owned()), ..task("completed", 1, 4, 4) };
        finds("S1", || seen(judged(&node, &retried(), At::Rest)));
    }

    #[test]
    fn a_cancel_may_have_cost_its_holder_the_task_or_not() {
        let log = |then| vec![row(1, 1, 1, "cancelled"), row(2, 2, then, "complete")];
        for then in [2, 3] {
            seen(judged(&task("completed", 2, then, 2), &log(then), At::Rest));
        }
        finds("S2", || seen(judged(&task("completed", 2, 4, 2), &log(4), At::Rest)));
    }

    #[test]
    fn a_cancel_in_the_queue_costs_nobody_the_task() {
        // The attempt was lost, and the run cancelled while it waited for the next one.
        let log = [row(1, 1, 1, "progress"), row(2, 1, 2, "retry"), row(3, 1, 2, "cancelled")];
        let task = Task { attempt: 2, retry_count: 1, ..task("cancelled", 1, 2, 3) };
        judged(&task, &log, At::Rest);
        // A holder's own event is of an epoch that was claimed.
        let held = [
            row(1, 1, 1, "progress"),
            row(2, 1, 2, "retry"),
            row(3, 1, 2, "progress"),
            row(4, 1, 2, "cancelled"),
        ];
        finds("S2, S6", || seen(judged(&Task { last_seq: 4, ..task }, &held, At::Rest)));
    }

    #[test]
    fn the_first_outage_of_a_run_alone_costs_no_retry() {
        let outage = |seq, epoch| Row {
            data: r#"{"error_type":"StoreLost","_system":true}"#.to_owned(),
            ..row(seq, 1, epoch, "retry")
        };
        let log = [outage(1, 1), outage(2, 3), row(3, 1, 5, "complete")];
        let counted = |retry_count| Task { attempt: 3, retry_count, ..task("completed", 1, 5, 3) };
        judged(&counted(1), &log, At::Rest);
        for wrong in [0, 2] {
            let judge = || seen(judged(&counted(wrong), &log, At::Rest));
            std::panic::catch_unwind(judge).expect_err("S7: retries");
        }
    }

    #[test]
    fn what_was_told_is_held_against_the_record() {
        let task = task("completed", 2, 3, 4);
        let shown = HashMap::from([(3, ("progress".to_owned(), "{}".to_owned()))]);
        let told = |change: fn(&mut Told)| {
            let viewers = vec![
                Watched { after: None, ids: vec![1, 2], shown: HashMap::new() },
                Watched { after: None, ids: vec![3, 4], shown: shown.clone() },
                Watched { after: Some(3), ids: vec![4], shown: HashMap::new() },
                Watched { after: Some(4), ids: vec![], shown: HashMap::new() },
            ];
            let mut told = Told { won: vec![1, 2], lost: vec![2], viewers };
            change(&mut told);
            told
        };
        let check = |told: &Told| {
            starts(&task, told);
            told.viewers.iter().for_each(|viewer| watched(&task, &sound(), viewer));
        };
        check(&told(|_| {}));
        for (what, told) in [
            ("S1", told(|told| told.won.push(2))),
            ("S1", told(|told| told.won.truncate(1))),
            ("S1", told(|told| told.lost.push(3))),
            ("S5", told(|told| told.viewers[0].ids = vec![1])),
            ("S5", told(|told| told.viewers[0].ids = vec![1, 2, 3, 4])),
            ("S5", told(|told| told.viewers[0].ids = vec![2])),
            ("S5", told(|told| told.viewers[0].ids = vec![])),
            ("S5", told(|told| told.viewers[1].ids = vec![3, 4, 4])),
            ("S5", told(|told| told.viewers[1].ids = vec![4])),
            ("S5", told(|told| told.viewers[2].after = Some(2))),
            ("S5", told(|told| told.viewers[3].after = Some(3))),
            ("S3", told(|told| told.viewers[1].ids = vec![3, 4, 5])),
            ("S3", told(|told| told.viewers[1].shown.get_mut(&3).unwrap().1 = "{ }".to_owned())),
        ] {
            finds(what, || check(&told));
        }
    }
}
