//! Who asks the nodes, and who watches.
//!
//! Decides: what each asks, and what it does when its node is gone: a start under an idempotency key is sent again to
//! another node, and a viewer comes back there with the last event that it has seen.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use soloist::{
    Cancel, CancelOptions, Coordinator, Create, Cursor, Delete, Delivery, Error, From, IdempotencyKey, Json,
    Key, NewTask, Policy, Run, Seq, StartOptions, SubscribeOptions, Subscribed, Timestamp, store::Signalled,
};

use crate::{ground::Ground, line::ASKER, work::Script};

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) number: u64,
    pub(crate) key: Key,
    pub(crate) what: What,
    /// It was answered before.
    pub(crate) is_repeat: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Create { script: Script, run_at: Option<Timestamp>, starts: bool },
    Start { policy: Policy, idempotency: Option<String> },
    Cancel { run: Option<Run> },
    Signal { name: &'static str },
    Delete,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    Answer,
    /// It may be done, or not.
    Failure,
}

impl Ask {
    pub(crate) fn is_repeatable(&self) -> bool {
        matches!(&self.what, What::Start { idempotency: Some(_), .. } | What::Create { .. })
    }

    pub(crate) fn is_keyed(&self) -> bool {
        matches!(&self.what, What::Start { idempotency: Some(_), .. })
    }

    pub(crate) fn is_replacing(&self) -> bool {
        matches!(&self.what, What::Start { policy: Policy::Replace, .. })
    }

    /// Asks a node, and has the answer judged.
    pub(crate) async fn put(
        self,
        ground: Arc<Ground>,
        node: usize,
        to: Coordinator,
        heard: Arc<Mutex<Heard>>,
    ) {
        let asked = ground.oracle().tick();
        let answer = self.answer(&ground, &to, asked).await;
        ground.note(node, "answers", &self.key.to_string(), || format!("ask {}: {answer:?}", self.number));
        *heard.lock().unwrap() = match answer {
            Err(Error::Unavailable { .. } | Error::Closed) => Heard::Failure,
            Err(Error::NotFound { code: "unknown_model", .. }) => Heard::Failure,
            Err(error) if error.code() != "unknown_task" => {
                ground.oracle().found("answers", &self.key, format!("ask {}: {error}", self.number));
                Heard::Answer
            }
            _ => Heard::Answer,
        };
    }

    async fn answer(&self, ground: &Ground, to: &Coordinator, asked: u64) -> soloist::Result<String> {
        let key = &self.key;
        match &self.what {
            What::Create { script, run_at, starts } => {
                let new = NewTask { run_at: *run_at, ..NewTask::named(key.clone(), script.input()) };
                let create = if *starts {
                    let options = StartOptions { policy: Policy::Once, ..StartOptions::default() };
                    let created = to.create_and_start(new, options).await?;
                    if let Some(start) = created.start {
                        ground.oracle().answered(key, None, false, asked, &start?, self.number);
                    }
                    created.create
                } else {
                    to.create(new).await?
                };
                Ok(match create {
                    Create::Created(_) => "created",
                    Create::Exists(_) => "exists",
                    _ => "differs",
                }
                .to_owned())
            }
            What::Start { policy, idempotency } => {
                let idem = idempotency.clone().map(IdempotencyKey::new).transpose()?;
                let options = StartOptions { policy: *policy, idempotency: idem, ..StartOptions::default() };
                let answer = to.start(key, options).await?;
                let mut oracle = ground.oracle();
                oracle.answered(
                    key,
                    idempotency.as_deref(),
                    self.is_replacing(),
                    asked,
                    &answer,
                    self.number,
                );
                Ok(short(&answer))
            }
            What::Cancel { run } => {
                let answer = to.cancel(key, CancelOptions { reason: None, run: *run }).await?;
                if let (Some(named), Cancel::Cancelled { run } | Cancel::Cancelling { run }) = (run, answer)
                    && *named != run
                {
                    ground.oracle().found("cancel", key, format!("named was {named}, and cancelled {run}"));
                }
                Ok(format!("{answer:?}"))
            }
            What::Signal { name } => {
                let answer = to.signal(key, name, Json::of(&self.number)?).await?;
                Ok(match answer {
                    Signalled::Recorded { run, number } => format!("signal {number} of run {run}"),
                    other => format!("{other:?}"),
                })
            }
            What::Delete => {
                let answer: Delete = to.delete(key, None).await?;
                Ok(format!("{answer:?}"))
            }
        }
    }
}

fn short(answer: &soloist::Start) -> String {
    use soloist::Start;
    match answer {
        Start::Started { run } => format!("started {run}"),
        Start::AlreadyActive { run, status, .. } => format!("run {run} is {status}"),
        Start::Next { run, is_first, .. } => format!("next {run} first {is_first}"),
        Start::AlreadyFinished { run, status } => format!("run {run} is {status}"),
        Start::Replayed { started, run, .. } => format!("replayed {started} {run}"),
    }
}

/// Somebody who watches a task, at one node after the other.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    pub(crate) number: u64,
    pub(crate) key: Key,
    pub(crate) follow: bool,
    /// Page by page, and not by a stream.
    pub(crate) polls: bool,
    pub(crate) from: From,
    /// The last event that it has seen; none before the first.
    pub(crate) seen: Option<Seq>,
    pub(crate) state: Watching,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watching {
    Here,
    /// Its node was gone, or sent it away.
    Cut,
    /// There is no more.
    Done,
}

pub(crate) async fn watch(ground: Arc<Ground>, node: usize, at: Coordinator, viewer: Arc<Mutex<Viewer>>) {
    let number = viewer.lock().unwrap().number;
    let polls = viewer.lock().unwrap().polls;
    match polls {
        true => ASKER.scope(number, poll_until_cut(ground, at, viewer)).await,
        false => ASKER.scope(number, watch_until_cut(ground, node, at, viewer)).await,
    }
}

/// Reads the log page by page, waiting for each, until there is no more.
async fn poll_until_cut(ground: Arc<Ground>, at: Coordinator, viewer: Arc<Mutex<Viewer>>) {
    let Viewer { number, key, seen, .. } = viewer.lock().unwrap().clone();
    let mut cursor = seen.unwrap_or_default();
    let says = |state| viewer.lock().unwrap().state = state;
    loop {
        match at.next_events(&key, cursor, 7, Duration::from_millis(400)).await {
            Ok(page) => {
                for event in &page.events {
                    // What a deleted task had is gone, and the one after it goes on behind it.
                    if cursor + 1 != event.seq && ground.oracle().was_deleted(&key) {
                        cursor = event.seq - 1;
                    }
                    ground.oracle().shown(&key, number, cursor, event);
                    cursor = event.seq;
                }
                viewer.lock().unwrap().seen = Some(cursor);
                if page.events.is_empty() && page.status.is_finished() {
                    let mut oracle = ground.oracle();
                    if !oracle.is_terminal(&key, cursor) && !oracle.was_deleted(&key) {
                        oracle.found(
                            "S5",
                            &key,
                            format!("viewer {number} was told at {cursor} that it is over"),
                        );
                    }
                    drop(oracle);
                    return says(Watching::Done);
                }
            }
            Err(Error::NotFound { .. }) => return says(Watching::Done),
            Err(_) => return says(Watching::Cut),
        }
        if at.draining().is_cancelled() {
            return says(Watching::Cut);
        }
    }
}

async fn watch_until_cut(ground: Arc<Ground>, node: usize, at: Coordinator, viewer: Arc<Mutex<Viewer>>) {
    let Viewer { number, key, follow, from, seen, .. } = viewer.lock().unwrap().clone();
    let is_new = seen.is_none();
    let from = seen.map_or(from, |seq| From::After(Cursor::from(seq)));
    let options = SubscribeOptions { from, follow, autostart: false };
    let says = |state| viewer.lock().unwrap().state = state;
    let mut stream = match at.subscribe(&key, options).await {
        Ok(Subscribed::Stream(stream)) => stream,
        Ok(Subscribed::Ended) => {
            let mut oracle = ground.oracle();
            if !seen.is_some_and(|seq| oracle.is_terminal(&key, seq)) && !oracle.was_deleted(&key) {
                oracle.found(
                    "S5",
                    &key,
                    format!("viewer {number} was told after {seen:?} that there is no more"),
                );
            }
            return says(Watching::Done);
        }
        Err(Error::NotFound { .. }) => return says(Watching::Done),
        Err(_) => return says(Watching::Cut),
    };
    let mut cursor = stream.cursor();
    if is_new && from == From::RunStart && !ground.oracle().is_run_start(&key, cursor) {
        ground.oracle().found(
            "S5",
            &key,
            format!("viewer {number} begins after {cursor}, where no run began"),
        );
    }
    if seen.is_some_and(|seen| seen != cursor) && !ground.oracle().was_deleted(&key) {
        ground.oracle().found(
            "S5",
            &key,
            format!("viewer {number} goes on after {cursor}, and was at {seen:?}"),
        );
    }
    viewer.lock().unwrap().seen = Some(cursor);
    loop {
        match stream.next().await {
            Ok(Some(Delivery::Events(slice))) => {
                for event in slice.events() {
                    ground.oracle().shown(&key, number, cursor, event);
                    cursor = event.seq;
                }
                viewer.lock().unwrap().seen = Some(cursor);
            }
            Ok(Some(Delivery::Gap { reason, first_seq })) => {
                if !ground.oracle().was_deleted(&key) {
                    let what = format!("viewer {number} meets a gap ({}) after {cursor}", reason.as_str());
                    ground.oracle().found("S5", &key, what);
                }
                cursor = first_seq - 1;
            }
            Ok(None) => break,
            Err(Error::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => {
                ground.oracle().found("S5", &key, format!("viewer {number}: {error}"));
                return says(Watching::Done);
            }
        }
    }
    ground.note(node, "is through with", &key.to_string(), || format!("viewer {number} at {cursor}"));
    let (is_over, was_deleted) = {
        let oracle = ground.oracle();
        (oracle.is_terminal(&key, cursor), oracle.was_deleted(&key))
    };
    if is_over && !follow || was_deleted {
        says(Watching::Done);
    } else if at.closing().is_cancelled() {
        says(Watching::Cut);
    } else {
        ground.oracle().found("S5", &key, format!("viewer {number} was told at {cursor} that it is over"));
        says(Watching::Done);
    }
}
