//! Speaks to a Soloist server.
//!
//! [`Client`] makes the calls of the HTTP API, one method each; [`EventStream`] watches a task and resumes by itself.
//! Built from `soloist-wire` alone: it knows neither the library nor a store.
//!
//! ```no_run
//! # async fn example() -> Result<(), soloist_client::Error> {
//! use soloist_client::{Client, Update, WatchOptions};
//! let client = Client::new("http://127.0.0.1:8888")?;
//! let mut stream = client.watch("demo/ExampleTask/1", WatchOptions::default())?;
//! while let Some(update) = stream.next().await? {
//!     if let Update::Event(event) = update {
//!         println!("{} {}", event.seq, event.event_type);
//!     }
//! }
//! # Ok(()) }
//! ```

#![forbid(unsafe_code)]

mod calls;
mod cursor;
mod error;
mod event;
mod keyed;
mod path;
mod stream;
mod transport;

pub use calls::{Client, Created, ListFilter};
pub use cursor::Cursor;
pub use error::Error;
pub use event::{Event, Gap};
pub use keyed::{Answered, IdempotencyKey, Keyed};
pub use stream::{EventStream, Update, WatchOptions};
