//! The calls of the HTTP API, a method each.
//!
//! Decides: nothing; a call that was not carried out is an [`Error`] that says what the server said.

use std::time::Duration;

use reqwest::{Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use soloist_wire::{
    CancelAnswer, CancelBody, CreateBody, EventsPage, Health, SignalAnswer, StartAnswer, StartBody,
    StatsBody, TaskRecord, TasksPage,
};

use crate::{
    Error, EventStream, IdempotencyKey, WatchOptions,
    keyed::Sent,
    path::{of_model, of_task, query},
    transport::{ANSWER_MAX, Transport},
};

/// A server. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
}

/// How a create was answered.
#[derive(Debug, Clone)]
pub enum Created {
    /// It is new.
    New(TaskRecord),
    /// It was there, with the same input.
    Exists(TaskRecord),
}

impl Created {
    /// The record, new or not.
    #[must_use]
    pub fn record(&self) -> &TaskRecord {
        match self {
            Self::New(record) | Self::Exists(record) => record,
        }
    }
}

/// Which tasks a list is to hold.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only of this app.
    pub app: Option<String>,
    /// Only of this model.
    pub model: Option<String>,
    /// Only in this status.
    pub status: Option<String>,
    /// Only of this owner.
    pub owner: Option<String>,
    /// Most tasks in the page.
    pub limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the one before.
    pub cursor: Option<String>,
}

impl Client {
    /// The server at `http://HOST:PORT`, `https://HOST` or `unix:PATH`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the URL is none of these.
    pub fn new(url: &str) -> Result<Self, Error> {
        Ok(Self { transport: Transport::new(url)? })
    }

    /// Creates a task of `app/model`; the store assigns its id.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn create(&self, model: &str, body: &CreateBody) -> Result<TaskRecord, Error> {
        self.call(Method::POST, &of_model("tasks", model)?, Some(body)).await.map(|(_, record)| record)
    }

    /// Creates the task `app/model/id`, unless it is there with the same input.
    ///
    /// # Errors
    /// [`Error`]; the code `input_differs` where it is there with another input.
    pub async fn put(&self, key: &str, body: &CreateBody) -> Result<Created, Error> {
        match self.call(Method::PUT, &of_task("tasks", key, &[])?, Some(body)).await? {
            (StatusCode::CREATED, record) => Ok(Created::New(record)),
            (_, record) => Ok(Created::Exists(record)),
        }
    }

    /// A task's record.
    ///
    /// # Errors
    /// [`Error`]; the code `unknown_task` where there is none.
    pub async fn task(&self, key: &str) -> Result<TaskRecord, Error> {
        self.get(&of_task("tasks", key, &[])?).await
    }

    /// A page of tasks, newest first.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tasks(&self, filter: &ListFilter) -> Result<TasksPage, Error> {
        let path = query(
            "/tasks",
            &[
                ("app", filter.app.clone()),
                ("model", filter.model.clone()),
                ("status", filter.status.clone()),
                ("owner", filter.owner.clone()),
                ("limit", filter.limit.map(|n| n.to_string())),
                ("cursor", filter.cursor.clone()),
            ],
        );
        self.get(&path).await
    }

    /// Deletes a task that is not active; where `run` is named, only if that is its last run and has ended.
    ///
    /// # Errors
    /// [`Error`]; the code `task_active` where it is, `other_run` where another run is its last.
    pub async fn delete(&self, key: &str, run: Option<u64>) -> Result<(), Error> {
        let path = query(&of_task("tasks", key, &[])?, &[("run", run.map(|run| run.to_string()))]);
        let request = self.transport.request(Method::DELETE, &path);
        self.transport.send(request.timeout(ANSWER_MAX)).await.map(drop)
    }

    /// Starts a task. That somebody else was first is an answer, not an error.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn start(&self, key: &str, body: &StartBody) -> Result<StartAnswer, Error> {
        self.call(Method::POST, &of_task("tasks", key, &["start"])?, Some(body))
            .await
            .map(|(_, answer)| answer)
    }

    /// Cancels a task; with `wait` (whole seconds) the answer says how it ended, if it did by then.
    ///
    /// # Errors
    /// [`Error`]; the codes `not_running` and `other_run`.
    pub async fn cancel(
        &self,
        key: &str,
        body: &CancelBody,
        wait: Option<Duration>,
    ) -> Result<CancelAnswer, Error> {
        let path = of_task("tasks", key, &["cancel"])?;
        let path = query(&path, &[("wait", wait.map(|wait| wait.as_secs().to_string()))]);
        self.call_within(Method::POST, &path, Some(body), ANSWER_MAX + wait.unwrap_or_default())
            .await
            .map(|(_, answer)| answer)
    }

    /// Sends the work a signal with any JSON text.
    ///
    /// # Errors
    /// [`Error`]; the code `not_running` on a finished task.
    pub async fn signal(
        &self,
        key: &str,
        name: &str,
        data: &soloist_wire::RawJson,
    ) -> Result<SignalAnswer, Error> {
        self.call(Method::POST, &of_task("tasks", key, &["signals", name])?, Some(data))
            .await
            .map(|(_, answer)| answer)
    }

    /// A page of a task's events.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn events(&self, key: &str, after: u64, limit: Option<usize>) -> Result<EventsPage, Error> {
        let path = of_task("tasks", key, &["events"])?;
        self.get(&query(
            &path,
            &[("after", Some(after.to_string())), ("limit", limit.map(|n| n.to_string()))],
        ))
        .await
    }

    /// The same page as soon as there is anything in it: where nothing stands after `after` the server waits until
    /// something does, the task is finished, or `wait` (whole seconds, at most 60) is over. For networks that break
    /// streams. A page that is empty and whose status is finished says that nothing more comes.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn next_events(
        &self,
        key: &str,
        after: u64,
        limit: Option<usize>,
        wait: Duration,
    ) -> Result<EventsPage, Error> {
        let path = query(
            &of_task("tasks", key, &["events"])?,
            &[
                ("after", Some(after.to_string())),
                ("limit", limit.map(|n| n.to_string())),
                // In whole seconds, and not rounded to none: that would not wait at all.
                ("wait", Some(wait.as_millis().div_ceil(1_000).to_string())),
            ],
        );
        self.call_within(Method::GET, &path, None::<&()>, ANSWER_MAX + wait).await.map(|(_, page)| page)
    }

    /// Watches a task; the stream resumes by itself. Nothing is sent until its first `next`.
    ///
    /// # Errors
    /// [`Error::Invalid`] where `key` is no key.
    pub fn watch(&self, key: &str, options: WatchOptions) -> Result<EventStream, Error> {
        Ok(EventStream::new(self.transport.clone(), of_task("stream", key, &[])?, options))
    }

    /// Whether the server lives.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn health(&self) -> Result<Health, Error> {
        self.get("/health").await
    }

    /// The server's live counts.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stats(&self) -> Result<StatsBody, Error> {
        self.get("/stats").await
    }

    /// The description of all calls (OpenAPI 3.1), as the text that came.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn openapi(&self) -> Result<soloist_wire::RawJson, Error> {
        self.get("/openapi.json").await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(Method::GET, path, None::<&()>).await.map(|(_, answer)| answer)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<(StatusCode, T), Error> {
        self.call_within(method, path, body, ANSWER_MAX).await
    }

    async fn call_within<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        within: Duration,
    ) -> Result<(StatusCode, T), Error> {
        self.call_keyed(method, path, body, within, None).await.map(|sent| (sent.status, sent.answer))
    }

    pub(crate) async fn call_keyed<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        within: Duration,
        key: Option<&IdempotencyKey>,
    ) -> Result<Sent<T>, Error> {
        let mut request = self.transport.request(method, path).timeout(within);
        if let Some(key) = key {
            request = request.header("idempotency-key", key.as_str());
        }
        if let Some(body) = body {
            let body = serde_json::to_vec(body)
                .map_err(|e| Error::Invalid(format!("cannot be written as JSON: {e}")))?;
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        let response = self.transport.send(request).await?;
        let status = response.status();
        let is_replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        let bytes = response.bytes().await.map_err(|e| self.transport.broken(&e))?;
        let answer = serde_json::from_slice(&bytes).map_err(|e| {
            self.transport.unexpected(format!("an answer of {} bytes that cannot be read: {e}", bytes.len()))
        })?;
        Ok(Sent { status, answer, is_replayed })
    }
}
