//! Listening, and letting go.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use soloist_server::{Exposure, Listener, ServerOptions, serve};
use soloist_wire::sse::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use crate::{
    client::{SSE, send},
    server::{DEADLINE, Server, coordinator},
};

#[tokio::test]
async fn a_stop_sends_viewers_away_with_a_time_to_come_back_and_takes_no_more_connections() {
    let mut server = Server::start().await;
    let key = server.started("Hold", "1", "{}").await;
    let mut viewers = Vec::new();
    for _ in 0..10 {
        let mut viewer = server.watch(&format!("/stream/{key}")).await;
        viewer.event().await.unwrap();
        viewers.push(viewer);
    }
    server.stop.cancel();
    let mut times = std::collections::BTreeSet::new();
    for mut viewer in viewers {
        let Some(Frame::Retry(retry)) = viewer.frame().await else { panic!("no retry") };
        assert!((2_000..=4_000).contains(&retry), "{retry}");
        times.insert(retry);
        assert!(matches!(viewer.frame().await, Some(Frame::Comment(_))));
        assert_eq!(viewer.frame().await, None);
    }
    assert!(times.len() > 1, "not all at the same time: {times:?}");
    tokio::time::timeout(DEADLINE, &mut server.done).await.expect("stopped in time").unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    // The work is not the viewers': it goes on.
    assert_eq!(server.coordinator.stats().running, 1);
}

#[tokio::test]
async fn viewers_see_the_end_of_a_run_that_a_shutdown_waits_for_and_are_sent_away_from_others() {
    let server = Server::start().await;
    let key = server.started("Hold", "1", "{}").await;
    let mut watching = server.watch(&format!("/stream/{key}")).await;
    watching.event().await.unwrap();
    server.call("PUT", "/tasks/demo/Hold/2", &[], "").await;
    let following = server.watch(&format!("/stream/{key}?follow=true")).await;
    let shutdown = tokio::spawn({
        let coordinator = server.coordinator.clone();
        async move { coordinator.shutdown(DEADLINE).await }
    });
    server.coordinator.draining().cancelled().await;
    // A pending task cannot be started now: its EventSource comes back.
    let mut pending = server.watch("/stream/demo/Hold/2").await;
    assert!(matches!(pending.frame().await, Some(Frame::Retry(2_000..=4_000))));
    assert!(matches!(pending.frame().await, Some(Frame::Comment(_))));
    assert_eq!(pending.frame().await, None);

    server.post(&format!("/tasks/{key}/signals/go"), "").await;
    let ended = watching.event().await.unwrap();
    assert_eq!((&*ended.event_type, watching.frame().await), ("complete", None));
    let followed = following.events().await;
    assert_eq!(followed.last().unwrap().event_type, "complete");
    tokio::time::timeout(DEADLINE, shutdown).await.expect("shut down in time").unwrap();
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_by_a_stop() {
    let mut server =
        Server::with(ServerOptions { stop_wait: Duration::from_millis(200), ..Default::default() }).await;
    let mut half = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /tasks/demo/Steps HTTP/1.1\r\nHost: {}\r\nContent-Length: 10\r\n\r\n{{",
        server.address
    );
    half.write_all(head.as_bytes()).await.unwrap();
    server.get("/health").await;
    server.stop.cancel();
    tokio::time::timeout(DEADLINE, &mut server.done).await.expect("stopped in time").unwrap().unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(DEADLINE, half.read_to_end(&mut rest)).await.expect("closed in time");
    assert!(closed.is_err() || rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn it_serves_on_a_unix_socket_for_its_user_alone_and_removes_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("soloist.sock");
    let address = format!("unix:{}", path.display());
    // The file of a server that was killed is taken over; that of one that lives is not.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = Listener::bind(&address, Exposure::Local).await.unwrap();
    assert_eq!(listener.address().unwrap(), address);
    assert!(Listener::bind(&address, Exposure::Local).await.unwrap_err().to_string().contains(&address));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let options = ServerOptions::default();
    let stop = options.stop.clone();
    let done = tokio::spawn(serve(listener, coordinator().await, options));
    let call = async |method: &str, path_of: &str| {
        let stream = UnixStream::connect(&path).await.unwrap();
        send(stream, "any.name", method, path_of, &[SSE], "".into()).await
    };
    assert_eq!(call("PUT", "/tasks/demo/Steps/1").await.status, 201);
    assert_eq!(call("GET", "/stream/demo/Steps/1").await.events().await.len(), 1);
    stop.cancel();
    tokio::time::timeout(DEADLINE, done).await.expect("stopped in time").unwrap().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "text").unwrap();
    assert!(Listener::bind(&format!("unix:{}", path.display()), Exposure::Local).await.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
}

#[tokio::test]
async fn nobody_beyond_this_machine_is_served_unless_that_is_said() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = Listener::bind(address, Exposure::Local).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied, "{address}");
        assert!(refused.to_string().contains("127.0.0.1 or on unix:"), "{refused}");
    }
    assert!(Listener::bind("0.0.0.0:0", Exposure::Anyone).await.is_ok());
    for address in ["127.0.0.1:0", "localhost:0"] {
        assert!(Listener::bind(address, Exposure::Local).await.is_ok(), "{address}");
    }
    for address in ["nonsense", "127.0.0.1", "127.0.0.1:99999", "unix:/nowhere/at/all.sock"] {
        let wrong = Listener::bind(address, Exposure::Local).await.unwrap_err().to_string();
        assert!(wrong.contains(address), "{wrong}");
    }
}
