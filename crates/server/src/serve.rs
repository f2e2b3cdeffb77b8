//! The server alone: connections in, requests to the router, and a stop that leaves nobody without an answer.

use std::{io, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use soloist::{Coordinator, limits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::{
    listener::Listener,
    router::router,
    state::{HostCheck, ServerOptions},
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
    let router = router(coordinator, options);
    let connections = Connections { graceful: GracefulShutdown::new(), cut: CancellationToken::new() };
    let _cut_at_the_end = connections.cut.clone().drop_guard();
    tokio::select! {
        () = accept(&listener, &router, &connections) => {}
        () = stop.cancelled() => {}
    }
    drop(listener);
    if tokio::time::timeout(stop_wait, connections.graceful.shutdown()).await.is_err() {
        tracing::warn!(
            wait_s = stop_wait.as_secs(),
            "some requests were not answered in time and are cut off"
        );
    }
    Ok(())
}

/// What reaches every open connection.
struct Connections {
    /// Answer what was asked, then close.
    graceful: GracefulShutdown,
    /// Close now.
    cut: CancellationToken,
}

async fn accept(listener: &Listener, router: &Router, connections: &Connections) {
    loop {
        let taken = match listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                // Events are small and wait for nothing.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection without TCP_NODELAY");
                }
                spawn(stream, router, connections);
            }),
            Listener::Unix(socket) => {
                socket.listener.accept().await.map(|(stream, _)| spawn(stream, router, connections))
            }
        };
        if let Err(error) = taken {
            tracing::warn!(%error, "a connection could not be taken");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn spawn<S>(stream: S, router: &Router, connections: &Connections)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::REQUEST_READ_MAX)
        .max_buf_size(limits::CONNECTION_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
    let connection = connections.graceful.watch(connection);
    let cut = connections.cut.clone();
    tokio::spawn(async move {
        if let Some(Err(error)) = cut.run_until_cancelled(connection).await {
            tracing::debug!(%error, "a connection ended early");
        }
    });
}
