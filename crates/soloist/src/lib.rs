//! Start a task once and stream it to everyone.
//!
//! An application starts slow work for somebody: an answer of a language model, an import, a report. The person
//! reloads, opens a second tab, presses the button twice. With this library, of any number of concurrent starts of one
//! task exactly one wins, every viewer sees the same events in the same order (live, late or resumed), the work
//! outlives its viewers, and how it ended is on record.
//!
//! ```
//! use soloist::{Context, Coordinator, Delivery, Failure, Json, MemoryStore, NewTask, StreamTask, Subscribed};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Greet { name: String }
//!
//! impl StreamTask for Greet {
//!     const MODEL: &'static str = "Greet";
//!     type Output = String;
//!     async fn process(self, context: Context) -> Result<String, Failure> {
//!         context.send_event("progress", "thinking").await?;
//!         Ok(format!("Hello, {}", self.name))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> soloist::Result<()> {
//! let soloist = Coordinator::builder(std::sync::Arc::new(MemoryStore::new())).register::<Greet>("app").open().await?;
//! let key: soloist::Key = "app/Greet/1".parse()?;
//! soloist.create(NewTask::named(key.clone(), Json::parse(r#"{"name":"Ada"}"#)?)).await?;
//! println!("{:?}", soloist.start(&key, Default::default()).await?); // Started { run: 1 }
//! println!("{:?}", soloist.start(&key, Default::default()).await?); // AlreadyActive { run: 1, .. }
//! if let Subscribed::Stream(mut viewer) = soloist.subscribe(&key, Default::default()).await? {
//!     while let Some(Delivery::Events(events)) = viewer.next().await? {
//!         events.events().iter().for_each(|event| println!("{} {}", event.seq, event.data.as_str()));
//!     }
//! }
//! # assert_eq!(soloist.task(&key).await?.final_value, Some(Json::parse(r#""Hello, Ada""#)?));
//! # Ok(()) }
//! ```
//!
//! Where to read on: [`Coordinator`] is the handle, [`StreamTask`] is work in Rust, [`store::Store`] is where it is on
//! record ([`MemoryStore`] here, SQLite in `soloist-sqlite`), [`state`] is the whole state machine, [`lease`] is why a
//! stalled process cannot write late, [`Subscription`] is how a viewer resumes without a gap or a double.

#![forbid(unsafe_code)]

pub mod audience;
mod chance;
pub mod clock;
pub mod coordinator;
pub mod error;
pub mod event;
#[doc(hidden)]
pub mod fault;
mod hub;
pub mod idempotency;
pub mod json;
pub mod key;
pub mod lease;
pub mod limits;
mod panic;
mod pipeline;
pub mod retry;
pub mod runner;
#[doc(hidden)]
pub mod simulation;
pub mod state;
pub mod store;
pub mod subscription;
mod sync;
pub mod task;
pub mod trace;

#[cfg(shuttle)]
#[path = "../../../tests/interleavings/parts/mod.rs"]
pub mod parts;

pub use audience::{Audience, Looked, Place, Viewed};
pub use clock::{BootClock, Clock, HostBootClock, SystemClock, Timestamp};
pub use coordinator::{
    Cancel, CancelOptions, Coordinator, CoordinatorBuilder, EventPage, ModelOptions, OnTimeout, Readiness,
    Retention, Stats,
};
pub use error::{Error, Failure, Result};
pub use event::{Data, Ending, Event, EventType, Format};
pub use idempotency::IdempotencyKey;
pub use json::Json;
pub use key::{Key, ModelKey};
pub use runner::{Context, Runner, StreamTask};
pub use state::{Policy, Status};
pub use store::{Store, StoreError, memory::MemoryStore};
pub use subscription::{Cursor, Delivery, From, GapReason, SubscribeOptions, Subscribed, Subscription};
pub use task::{
    Create, Created, Delete, Epoch, Losses, NewId, NewTask, NextRun, NodeId, Run, RunTerms, Seq, Start,
    StartOptions, Task, TaskFilter, TaskPage,
};
pub use trace::TraceContext;
