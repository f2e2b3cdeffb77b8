//! Start or attach: create a task, start it and watch it, in one request.
//!
//! Decides: which steps the request takes, and what may be repeated of it. A client of such a stream comes back by sending
//! the very same request once more, so whatever it has asked for must not happen twice: the create finds its task by the
//! id or the `Idempotency-Key`, the start is one atomic step of the store, and a request that brings a cursor starts
//! nothing anew. Never decides by a look at the task whether to create or to start it.

use axum::{
    extract::{OriginalUri, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use soloist::{
    Cursor, From, IdempotencyKey, Json, Key, NewId, NewTask, Policy, Start, StartOptions, SubscribeOptions,
    Subscribed, TraceContext, idempotency::Call,
};
use soloist_wire::problem;

use super::stream::{self, StreamQuery, Wish};
use crate::{
    body::AnyJson,
    convert,
    creation::{self, Made, Terms},
    idempotency,
    problem::Problem,
    query::{KeyPath, ModelPath, QueryOf},
    state::AppState,
    trace,
};

/// The query: that of a stream, and what the body of a create says besides the input.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AttachQuery {
    format: Option<String>,
    replay: Option<String>,
    last_event_id: Option<String>,
    follow: Option<String>,
    policy: Option<soloist_wire::Policy>,
    max_retries: Option<u32>,
    timeout_seconds: Option<u32>,
    deadline_seconds: Option<u32>,
    run_at: Option<String>,
}

/// What a request asks for.
struct Asked {
    wish: Wish,
    policy: Policy,
    task: NewTask,
    key: Option<IdempotencyKey>,
    trace: Option<TraceContext>,
}

impl Asked {
    fn read(query: AttachQuery, headers: &HeaderMap, id: NewId, input: Json) -> Result<Self, Problem> {
        let AttachQuery { format, replay, last_event_id, follow, policy, .. } = query;
        let wish = Wish::read(&StreamQuery { format, replay, last_event_id, follow }, headers)?;
        let policy = policy.map_or(Policy::Once, convert::policy);
        if policy == Policy::Rerun {
            return Err(Problem::new(
                problem::INVALID_QUERY,
                "policy is once, restart or replace; the run of a rerun begins only when the active one has ended, so \
                 start it and then watch the task with follow=true",
            ));
        }
        let key = idempotency::key(headers)?;
        if policy != Policy::Once && key.is_none() {
            return Err(Problem::new(
                problem::INVALID_QUERY,
                "policy=restart and policy=replace need an Idempotency-Key here: a client whose stream has broken off sends the \
                 same request again, and only the key tells that from the wish for another run",
            ));
        }
        let terms = Terms {
            max_retries: query.max_retries,
            timeout_seconds: query.timeout_seconds,
            deadline_seconds: query.deadline_seconds,
            run_at: query.run_at.as_deref(),
        };
        // A call of its own: neither a create under the same key nor another policy is this request. How and from where it
        // is watched is no part of it, since a client that comes back brings another cursor.
        let then = format!("attach {}", policy.as_str());
        let task = creation::new_task(id, input, &terms, key.as_ref(), &then).map_err(in_query)?;
        task.check().map_err(|error| in_query(error.into()))?;
        let asked = Self { wish, policy, task, key, trace: trace::context(headers) };
        if asked.has_seen_events() && asked.key.is_none() && matches!(asked.task.id, NewId::Assigned(_)) {
            return Err(Problem::new(
                problem::INVALID_CURSOR,
                "a position in the log of a task that is not named: this would create another one; send the request to \
                 the path in Location, or under an Idempotency-Key",
            ));
        }
        Ok(asked)
    }

    /// Whether the client comes back: it has been shown events, so what it asked for was carried out.
    fn has_seen_events(&self) -> bool {
        matches!(self.wish.from, From::After(Cursor { seq: 1.., .. }))
    }

    /// How the task is started. A client that comes back has its run: started again or replaced it would lose the one that
    /// it watches, whether or not it has made up a fresh key for its request.
    fn start(&self) -> StartOptions {
        let (policy, idempotency) =
            if self.has_seen_events() { (Policy::Once, None) } else { (self.policy, self.key.clone()) };
        StartOptions { policy, idempotency, call: Call::StartOrAttach, trace: self.trace.clone() }
    }
}

/// What stands in the body of a create stands in the query here.
fn in_query(problem: Problem) -> Problem {
    match problem.code {
        problem::INVALID_BODY => Problem { code: problem::INVALID_QUERY, ..problem },
        _ => problem,
    }
}

/// `POST /stream/{app}/{model}/{id}`
pub(crate) async fn attach(
    State(state): State<AppState>,
    OriginalUri(uri): OriginalUri,
    KeyPath(key): KeyPath,
    headers: HeaderMap,
    QueryOf(query): QueryOf<AttachQuery>,
    AnyJson(input): AnyJson,
) -> Result<Response, Problem> {
    let asked = Asked::read(query, &headers, NewId::Named(key), input)?;
    match carry_out(&state, asked, |_| uri.path().to_owned()).await {
        Err(problem) if problem.is_passing() && stream::reads_streams(&headers) => {
            Ok(stream::come_back(&problem))
        }
        answer => answer,
    }
}

/// `POST /stream/{app}/{model}`: the server assigns the id. Who is refused for now is told so and not to come back, since
/// that would create another task.
pub(crate) async fn attach_new(
    State(state): State<AppState>,
    OriginalUri(uri): OriginalUri,
    ModelPath(model): ModelPath,
    headers: HeaderMap,
    QueryOf(query): QueryOf<AttachQuery>,
    AnyJson(input): AnyJson,
) -> Result<Response, Problem> {
    let asked = Asked::read(query, &headers, NewId::Assigned(model), input)?;
    carry_out(&state, asked, |key| format!("{}/{}", uri.path(), key.id())).await
}

async fn carry_out(
    state: &AppState,
    asked: Asked,
    location: impl Fn(&Key) -> String,
) -> Result<Response, Problem> {
    if let (true, NewId::Named(key)) = (asked.has_seen_events(), &asked.task.id) {
        return come_again(state, key, &asked, &location(key)).await;
    }
    let created = state.coordinator.create_and_start(asked.task.clone(), asked.start()).await?;
    let (made, task) = creation::made(created.create)?;
    let location = location(&task.key);
    let start = created.start.expect("what is there is started");
    let answer = started(state, &task.key, start, asked)
        .await
        .map_err(|problem| Problem { location: Some(location.clone()), ..problem })?;
    let answer = at(&location, answer);
    Ok(if made == Made::Replayed { idempotency::replayed(answer) } else { answer })
}

/// The stream for a client that comes back to a task which it has named. What it asked for was carried out when it was shown
/// events, so nothing is created and nothing is started: the task may have been deleted since, and would run once more.
async fn come_again(state: &AppState, key: &Key, asked: &Asked, location: &str) -> Result<Response, Problem> {
    let task = state.coordinator.task(key).await?;
    if !task.input.same_value(&asked.task.input) {
        return Err(creation::differs(key));
    }
    Ok(at(location, watched(state, key, &asked.wish).await?))
}

async fn started(
    state: &AppState,
    key: &Key,
    start: soloist::Result<Start>,
    mut asked: Asked,
) -> Result<Response, Problem> {
    let start = start.map_err(|error| creation::not_started(key, error))?;
    let has_won = matches!(start, Start::Started { .. } | Start::Replayed { started: true, .. });
    if has_won && matches!(asked.wish.from, From::Latest | From::Tail) {
        // Everything of a run that it started itself comes after its request.
        asked.wish.from = From::RunStart;
    }
    watched(state, key, &asked.wish).await
}

async fn watched(state: &AppState, key: &Key, wish: &Wish) -> Result<Response, Problem> {
    let options = SubscribeOptions { from: wish.from, follow: wish.follow, autostart: false };
    match state.coordinator.subscribe(key, options).await? {
        Subscribed::Stream(subscription) => Ok(stream::streamed(state, subscription, wish)),
        Subscribed::Ended => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

fn at(location: &str, mut answer: Response) -> Response {
    let location = HeaderValue::try_from(location).expect("a path is a header value");
    answer.headers_mut().insert(header::LOCATION, location);
    answer
}
