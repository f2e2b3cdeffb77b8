//! A real server on a free port, with a store in memory.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use soloist::{Coordinator, MemoryStore, ModelKey, ModelOptions, Store};
use soloist_server::{Exposure, Listener, ServerOptions, serve};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::models::{Fails, Finish, Hold, OneAtATime, Says, SaysComplete, Steps, Talks, Traced};

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) coordinator: Coordinator,
    pub(crate) stop: CancellationToken,
    pub(crate) done: JoinHandle<std::io::Result<()>>,
}

pub(crate) async fn coordinator() -> Coordinator {
    coordinator_on(Arc::new(MemoryStore::new())).await
}

pub(crate) async fn coordinator_on(store: Arc<dyn Store>) -> Coordinator {
    Coordinator::builder(store)
        .register::<Steps>("demo")
        .register::<Hold>("demo")
        .register::<Finish>("demo")
        .register::<SaysComplete>("demo")
        .register::<Fails>("demo")
        .register::<Says>("demo")
        .register::<Talks>("demo")
        .register::<Traced>("demo")
        .runner(
            ModelKey::new("demo", "One").unwrap(),
            Arc::new(OneAtATime),
            ModelOptions { max_concurrent: 1, ..ModelOptions::default() },
        )
        .open()
        .await
        .unwrap()
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(ServerOptions::default()).await
    }

    pub(crate) async fn with(options: ServerOptions) -> Self {
        Self::on(coordinator().await, options).await
    }

    pub(crate) async fn on(coordinator: Coordinator, options: ServerOptions) -> Self {
        let listener = Listener::bind("127.0.0.1:0", Exposure::Local).await.unwrap();
        let address = listener.address().unwrap().parse().unwrap();
        let stop = options.stop.clone();
        let done = tokio::spawn(serve(listener, coordinator.clone(), options));
        Self { address, coordinator, stop, done }
    }

    /// Waits until the process has as many viewers.
    pub(crate) async fn until_viewers(&self, count: usize) {
        let reached = async {
            while self.coordinator.stats().viewers != count {
                tokio::task::yield_now().await;
            }
        };
        let stats = || self.coordinator.stats();
        tokio::time::timeout(DEADLINE, reached)
            .await
            .unwrap_or_else(|_| panic!("{:?}, not {count} viewers", stats()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
