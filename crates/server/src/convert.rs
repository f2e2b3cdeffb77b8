//! The bridge between the types of the library and those of the wire; there is no other.

use soloist::{Data, Event, EventPage, Json, Key, Policy, Start, Stats, Status, Task, TaskPage};
use soloist_wire::{
    EventRecord, EventsPage, FinishedAnswer, RawJson, StartAnswer, StatsBody, TaskId, TaskRecord, TasksPage,
    sse,
};

use crate::state::Ids;

pub(crate) fn task(task: Task) -> TaskRecord {
    let next_run = (task.next_run != soloist::NextRun::None).then(|| task.following_run());
    let (error_type, error_message, error_traceback) = match task.failure {
        Some(failure) => (Some(failure.error_type), Some(failure.message), failure.traceback),
        None => (None, None, None),
    };
    TaskRecord {
        app: task.key.app().to_owned(),
        model: task.key.model().to_owned(),
        id: task.key.id().to_owned(),
        input: raw(&task.input),
        status: task.status.to_string(),
        run: task.run,
        attempt: task.attempt,
        epoch: task.epoch.0,
        owner: task.owner,
        created_at: task.created_at.to_string(),
        updated_at: task.updated_at.to_string(),
        started_at: task.started_at.map(|t| t.to_string()),
        completed_at: task.completed_at.map(|t| t.to_string()),
        failed_at: task.failed_at.map(|t| t.to_string()),
        cancelled_at: task.cancelled_at.map(|t| t.to_string()),
        final_value: task.final_value.as_ref().map(raw),
        error_type,
        error_message,
        error_traceback,
        cancellation_reason: task.cancellation_reason,
        retry_count: task.retry_count,
        max_retries: task.max_retries,
        timeout_seconds: task.timeout_seconds,
        deadline_seconds: task.deadline_seconds,
        run_at: task.run_at.map(|t| t.to_string()),
        due_at: task.due_at.map(|t| t.to_string()),
        position: task.position,
        next_run,
        node: task.node.map(|n| n.to_string()),
        last_seq: task.last_seq,
    }
}

pub(crate) fn tasks(page: TaskPage) -> TasksPage {
    TasksPage {
        tasks: page.tasks.into_iter().map(task).collect(),
        next_cursor: page.next_cursor.map(|number| number.to_string()),
    }
}

/// How a finished task ended, for a client that does not read streams.
pub(crate) fn finished(task: &Task) -> FinishedAnswer {
    let mut answer = FinishedAnswer { status: task.status.to_string(), ..Default::default() };
    match task.status {
        Status::Completed => {
            answer.final_value = Some(task.final_value.as_ref().map_or_else(|| raw(&Json::null()), raw));
            answer.completed_at = task.completed_at.map(|t| t.to_string());
        }
        Status::Failed => {
            answer.error_type = task.failure.as_ref().map(|f| f.error_type.clone());
            answer.error_message = task.failure.as_ref().map(|f| f.message.clone());
            answer.failed_at = task.failed_at.map(|t| t.to_string());
        }
        Status::Cancelled => {
            answer.cancellation_reason.clone_from(&task.cancellation_reason);
            answer.cancelled_at = task.cancelled_at.map(|t| t.to_string());
        }
        Status::Pending | Status::Queued | Status::Running | Status::Cancelling => {}
    }
    answer
}

pub(crate) fn events(page: EventPage) -> EventsPage {
    EventsPage {
        events: page.events.into_iter().map(event).collect(),
        last_seq: page.last_seq,
        status: page.status.to_string(),
    }
}

fn event(event: Event) -> EventRecord {
    let (data, text) = match &event.data {
        Data::Json(json) => (raw(json), false),
        Data::Text(text) => (raw(&Json::of(&**text).expect("a string is JSON")), true),
    };
    EventRecord {
        seq: event.seq,
        run: event.run,
        event_type: event.event_type.to_string(),
        data,
        text,
        timestamp: event.timestamp.to_string(),
    }
}

/// The answer to a start; `now` is how a task stands whose start won.
pub(crate) fn start(start: Start, now: Option<Status>) -> StartAnswer {
    match start {
        Start::Started { run } => {
            // A quick run may be over already; it was running when it was started.
            let status = if now == Some(Status::Queued) { Status::Queued } else { Status::Running };
            StartAnswer {
                started: true,
                run,
                status: status.to_string(),
                node: None,
                since: None,
                next_run: None,
            }
        }
        Start::Replayed { started, run, status } => {
            StartAnswer { started, run, status: status.to_string(), node: None, since: None, next_run: None }
        }
        Start::AlreadyActive { run, status, node, since } => StartAnswer {
            started: false,
            run,
            status: status.to_string(),
            node: node.map(|n| n.to_string()),
            since: since.map(|t| t.to_string()),
            next_run: None,
        },
        Start::Next { run, active, status, node, since, .. } => StartAnswer {
            started: false,
            run: active,
            status: status.to_string(),
            node: node.map(|n| n.to_string()),
            since: since.map(|t| t.to_string()),
            next_run: Some(run),
        },
        Start::AlreadyFinished { run, status } => StartAnswer {
            started: false,
            run,
            status: status.to_string(),
            node: None,
            since: None,
            next_run: None,
        },
    }
}

pub(crate) fn policy(policy: soloist_wire::Policy) -> Policy {
    match policy {
        soloist_wire::Policy::Restart => Policy::Restart,
        soloist_wire::Policy::Once => Policy::Once,
        soloist_wire::Policy::Rerun => Policy::Rerun,
        soloist_wire::Policy::Replace => Policy::Replace,
    }
}

pub(crate) fn stats(node: &str, stats: Stats) -> StatsBody {
    StatsBody {
        node: node.to_owned(),
        running: stats.running as u64,
        starting: stats.starting as u64,
        kept: stats.kept as u64,
        viewers: stats.viewers as u64,
        stuck: stats.stuck as u64,
    }
}

/// The id where it stands for itself: a number where it is one.
pub(crate) fn task_id(key: &Key) -> TaskId {
    key.numeric_id().map_or_else(|| TaskId::Text(key.id().to_owned()), TaskId::Number)
}

/// What all frames of a task's stream have in common.
pub(crate) fn source(key: &Key) -> sse::Source {
    sse::Source::new(key.app(), key.model(), &task_id(key))
}

/// Appends the frame of an event.
pub(crate) fn frame(source: &sse::Source, format: sse::Format, ids: Ids, event: &Event, out: &mut Vec<u8>) {
    let data = match &event.data {
        Data::Json(json) => sse::Data::Json(json.as_str()),
        Data::Text(text) => sse::Data::Text(text),
    };
    let event = sse::Event {
        seq: event.seq,
        token: match ids {
            Ids::Seq => None,
            Ids::SeqEpoch => Some(event.epoch.0),
        },
        run: event.run,
        event_type: event.event_type.as_str(),
        data,
        timestamp: &event.timestamp,
    };
    source.event(out, format, &event);
}

/// The slot in which frames of that format are kept.
pub(crate) fn slot(format: sse::Format) -> soloist::Format {
    match format {
        sse::Format::Full => soloist::Format::Full,
        sse::Format::Raw => soloist::Format::Raw,
        sse::Format::Message => soloist::Format::Message,
    }
}

fn raw(json: &Json) -> RawJson {
    RawJson::from(serde_json::from_str::<RawJson>(json.as_str()).expect("Json is valid from birth"))
}
