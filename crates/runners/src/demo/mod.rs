//! Demo models: native work that shows, and measures, what Soloist does.
//!
//! Decides: nothing but what these models do. They read their input strictly (an unknown field is refused) and let go
//! at once when they are asked to stop.

mod burst;
mod continues;
mod example;
mod fail;
mod fetch;
mod generators;
mod input;

use soloist::{Context, Failure, coordinator::CoordinatorBuilder};

pub use self::{
    burst::BurstTask,
    continues::ContinueTask,
    example::ExampleTask,
    fail::FailTask,
    fetch::HttpFetchTask,
    generators::{AsyncGeneratorTask, SyncGeneratorTask},
};

/// The app that the demo models stand under.
pub const APP: &str = "demo";

/// Serves all demo models.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> soloist::Result<()> {
/// use std::sync::Arc;
/// use soloist::{MemoryStore, coordinator::Coordinator};
///
/// let builder = Coordinator::builder(Arc::new(MemoryStore::new()));
/// let coordinator = soloist_runners::demo::register(builder).open().await?;
/// assert_eq!(coordinator.models().len(), 7);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn register(builder: CoordinatorBuilder) -> CoordinatorBuilder {
    builder
        .register::<ExampleTask>(APP)
        .register::<ContinueTask>(APP)
        .register::<AsyncGeneratorTask>(APP)
        .register::<SyncGeneratorTask>(APP)
        .register::<HttpFetchTask>(APP)
        .register::<FailTask>(APP)
        .register::<BurstTask>(APP)
}

/// The result of `work`, or a failure as soon as the attempt is asked to stop.
async fn until_cancelled<T>(
    context: &Context,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = context.cancelled() => Err(Failure::new("Cancelled", "stopped as it was asked to")),
        done = work => done,
    }
}
