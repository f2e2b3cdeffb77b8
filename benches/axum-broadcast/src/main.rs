//! What many write by hand: axum, `tokio::sync::broadcast` and `Sse`. A baseline, to measure Soloist beside it.
//!
//! It keeps nothing: a viewer that reads slowly loses events, a restart loses all of them, and whoever asks twice runs
//! twice. It answers the few calls that `soloist bench fanout --server` makes, in their form, so that the same client
//! measures both:
//!
//! ```console
//! $ soloist bench fanout --stalled 0 --server target/release/axum-broadcast
//! ```
//!
//! As fast as it can means here: as fast as the slowest viewer reads, with at most [`AHEAD_MAX`] events ahead of it.
//! Without that the viewers would lose events, and there would be nothing to measure.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
    routing::{get, post},
};
use futures_util::{Stream, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::broadcast,
    time::{Instant, sleep, sleep_until},
};

/// What the channel of a task keeps.
const CHANNEL_EVENTS: usize = 1_024;
/// How far the sender runs ahead of the slowest viewer where no pace is named.
const AHEAD_MAX: usize = 64;

#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<HashMap<String, Task>>>);

#[derive(Clone)]
struct Task {
    load: Load,
    sender: broadcast::Sender<Said>,
}

#[derive(Clone)]
struct Said {
    seq: u64,
    word: &'static str,
    data: Arc<str>,
}

/// The input of `demo/BurstTask`; any other is that of a task which says nothing.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default)]
struct Load {
    events: u64,
    bytes: usize,
    rate: u64,
    is_silent: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self { events: 0, bytes: 0, rate: 0, is_silent: true }
    }
}

#[derive(Deserialize)]
struct Create {
    input: Value,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let router = Router::new()
        .route("/health", get(|| async { Json(json!({"status": "ok", "version": "axum-broadcast"})) }))
        .route("/tasks/{app}/{model}", post(create))
        .route("/tasks/{app}/{model}/{id}", get(|| async { Json(json!({"last_seq": 0})) }))
        .route("/tasks/{app}/{model}/{id}/cancel", post(cancel))
        .route("/tasks/{app}/{model}/{id}/start", post(start))
        .route("/stream/{app}/{model}/{id}", get(watch))
        .with_state(Tasks::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({"listening": format!("http://{}", listener.local_addr()?)}));
    axum::serve(axum::serve::ListenerExt::tap_io(listener, |socket| drop(socket.set_nodelay(true))), router)
        .await
}

impl Tasks {
    fn find(&self, id: &str) -> Option<Task> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

async fn create(State(tasks): State<Tasks>, Json(create): Json<Create>) -> (StatusCode, Json<Value>) {
    let is_silent = create.input.get("events").is_none();
    let load = Load { is_silent, ..serde_json::from_value(create.input).unwrap_or_default() };
    let mut all = tasks.0.lock().unwrap_or_else(PoisonError::into_inner);
    let id = (all.len() + 1).to_string();
    all.insert(id.clone(), Task { load, sender: broadcast::Sender::new(CHANNEL_EVENTS) });
    (StatusCode::CREATED, Json(json!({"id": id})))
}

/// There is nothing to cancel.
async fn cancel(RawQuery(query): RawQuery) -> StatusCode {
    if query.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED }
}

async fn start(State(tasks): State<Tasks>, Path(key): Path<[String; 3]>) -> (StatusCode, Json<Value>) {
    let Some(task) = tasks.find(&key[2]) else { return (StatusCode::NOT_FOUND, Json(Value::Null)) };
    if !task.load.is_silent {
        tokio::spawn(send(task));
    }
    (StatusCode::ACCEPTED, Json(json!({"started": true, "run": 1})))
}

async fn send(Task { load, sender }: Task) {
    let begun = Instant::now();
    for i in 1..=load.events {
        if load.rate > 0 {
            sleep_until(begun + Duration::from_secs_f64((i - 1) as f64 / load.rate as f64)).await;
        }
        while load.rate == 0 && sender.len() >= AHEAD_MAX {
            sleep(Duration::from_micros(100)).await;
        }
        let sent = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let bare = format!(r#"{{"i":{i},"t_ns":{sent},"pad":""#);
        let pad = "x".repeat(load.bytes.saturating_sub(bare.len() + 2));
        // Nobody may be listening.
        let _ = sender.send(Said { seq: i, word: "burst", data: format!("{bare}{pad}\"}}").into() });
    }
    let _ = sender.send(Said { seq: load.events + 1, word: "complete", data: "{}".into() });
}

async fn watch(
    State(tasks): State<Tasks>,
    Path(key): Path<[String; 3]>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, StatusCode> {
    let receiver = tasks.find(&key[2]).ok_or(StatusCode::NOT_FOUND)?.sender.subscribe();
    let events = stream::unfold(receiver, |mut receiver| async {
        loop {
            match receiver.recv().await {
                Ok(said) => {
                    let event = Event::default().id(said.seq.to_string()).event(said.word).data(&*said.data);
                    return Some((Ok(event), receiver));
                }
                // What was lost is lost.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}
