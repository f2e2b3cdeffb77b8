//! The server alone: connections in, requests to the router, and a stop that leaves nobody without an answer.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use soloist::Coordinator;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    connection::{self, Connection},
    frames::Stops,
    listener::Listener,
    router::router,
    state::{HostCheck, ServerOptions},
    viewers::{IntoSocket, Viewers},
};

/// How long no connection is taken after one could not be, so that a process without free descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves all calls on a listener until [`ServerOptions::stop`] is cancelled. Then it takes no more connections, tells
/// viewers to come back, waits for the requests under way (at most [`ServerOptions::stop_wait`]), and returns.
///
/// To lose nothing: shut the coordinator down first (viewers see the ends of the runs that its grace allows), then
/// cancel `stop`.
///
/// # Errors
/// What the system says of the listener.
pub async fn serve(
    listener: Listener,
    coordinator: Coordinator,
    mut options: ServerOptions,
) -> io::Result<()> {
    if listener.is_tcp_loopback() {
        options.host_check = HostCheck::On;
    }
    let (stop, stop_wait) = (options.stop.clone(), options.stop_wait);
    let viewers = Viewers::start(options.heartbeat, Stops::of(&coordinator, &options))?;
    let connections = Connections {
        router: router(coordinator, options),
        viewers: Arc::new(viewers),
        tracker: TaskTracker::new(),
        stop: stop.clone(),
        cut: CancellationToken::new(),
    };
    let _cut_at_the_end = connections.cut.clone().drop_guard();
    tokio::select! {
        () = accept(&listener, &connections) => {}
        () = stop.cancelled() => {}
    }
    drop(listener);
    connections.tracker.close();
    let all_left = async {
        connections.tracker.wait().await;
        connections.viewers.left().await;
    };
    if tokio::time::timeout(stop_wait, all_left).await.is_err() {
        tracing::warn!(
            wait_s = stop_wait.as_secs(),
            "some requests were not answered in time and are cut off"
        );
    }
    Ok(())
}

/// What all connections have in common.
struct Connections {
    router: Router,
    viewers: Arc<Viewers>,
    tracker: TaskTracker,
    /// Answer what was asked, then close.
    stop: CancellationToken,
    /// Close now.
    cut: CancellationToken,
}

async fn accept(listener: &Listener, connections: &Connections) {
    loop {
        let taken = match listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                // Events are small and wait for nothing.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection without TCP_NODELAY");
                }
                spawn(stream, connections);
            }),
            Listener::Unix(socket) => {
                socket.listener.accept().await.map(|(stream, _)| spawn(stream, connections))
            }
        };
        if let Err(error) = taken {
            tracing::warn!(%error, "a connection could not be taken");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn spawn<S: Connection + IntoSocket>(stream: S, connections: &Connections) {
    let Connections { router, viewers, stop, cut, tracker } = connections;
    let served = connection::serve(stream, router.clone(), viewers.clone(), stop.clone());
    let cut = cut.clone();
    tracker.spawn(async move {
        if let Some(Err(error)) = cut.run_until_cancelled(served).await {
            tracing::debug!(%error, "a connection ended early");
        }
    });
}
