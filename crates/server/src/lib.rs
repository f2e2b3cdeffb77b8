//! Soloist over HTTP.
//!
//! Decides: nothing about tasks. A handler parses, calls the [`Coordinator`](soloist::Coordinator), and converts the
//! answer; [`problem`] says which status an error becomes, `guard.rs` who may call, `convert.rs` how types of the
//! library and of the wire become each other. No SQL, no task bodies, no state of its own.
//!
//! The router nests into any axum app:
//!
//! ```
//! use std::sync::Arc;
//! # #[derive(serde::Serialize, serde::Deserialize)] struct Greet {}
//! # impl soloist::StreamTask for Greet {
//! #     const MODEL: &'static str = "Greet";
//! #     type Output = ();
//! #     async fn process(self, _: soloist::Context) -> Result<(), soloist::Failure> { Ok(()) }
//! # }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> soloist::Result<()> {
//! let store = Arc::new(soloist::MemoryStore::new());
//! let coordinator = soloist::Coordinator::builder(store).register::<Greet>("app").open().await?;
//! let app: axum::Router = axum::Router::new()
//!     .route("/", axum::routing::get(|| async { "my app" }))
//!     .nest("/work", soloist_server::router(coordinator, soloist_server::ServerOptions::default()));
//! # Ok(()) }
//! ```
//!
//! [`serve`] serves it alone, on TCP or a Unix socket.

#![forbid(unsafe_code)]

mod body;
mod connection;
mod convert;
mod creation;
mod frames;
mod guard;
mod idempotency;
mod listener;
pub mod problem;
mod query;
mod rest;
mod router;
mod routes;
mod serve;
mod state;
mod trace;
mod viewers;

pub use listener::{Exposure, Listener};
pub use router::router;
pub use routes::openapi::OPENAPI;
pub use serve::serve;
pub use state::{Autostart, HostCheck, Ids, ServerOptions};
