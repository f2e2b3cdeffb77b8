//! Connections that have become viewers, byte by byte: over real sockets, some of which take little.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use rand::{RngExt as _, SeedableRng, rngs::StdRng};
use soloist::{Key, MemoryStore, Store, StoreError, store::StoreResult};
use soloist_server::{Autostart, Exposure, Listener, ServerOptions, serve};
use soloist_store_contract::line::{Between, Call, Line};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::SSE,
    server::{DEADLINE, Server, coordinator, coordinator_on},
};

/// No heartbeat comes between the events, and no viewer starts anything.
fn silent() -> ServerOptions {
    ServerOptions { heartbeat: DEADLINE * 10, autostart: Autostart::Off, ..ServerOptions::default() }
}

/// A connection whose own buffer is as small as the system allows.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.connect(address).await.unwrap()
}

fn request(method: &str, path: &str, version: &str, more: &str) -> String {
    format!("{method} {path} {version}\r\nHost: localhost\r\nAccept: text/event-stream\r\n{more}\r\n")
}

async fn ask(stream: &mut (impl AsyncWrite + Unpin), path: &str) {
    stream.write_all(request("GET", path, "HTTP/1.1", "").as_bytes()).await.unwrap();
}

/// All bytes to the end of a connection, also where it was reset.
async fn to_the_end(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut got = Vec::new();
    let mut piece = vec![0; 64 << 10];
    while let Ok(count @ 1..) = timeout(DEADLINE, stream.read(&mut piece)).await.expect("bytes in time") {
        got.extend_from_slice(&piece[..count]);
    }
    got
}

/// Head, what stands in the chunks, and whether the last one came. Whatever is not exactly a chunk fails.
fn taken_apart(answer: &[u8]) -> (String, Vec<u8>, bool) {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    assert!(head.contains("\r\ntransfer-encoding: chunked"), "{head}");
    let (mut rest, mut body) = (&answer[end + 4..], Vec::new());
    while let Some(line) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let digits = std::str::from_utf8(&rest[..line]).unwrap();
        let length = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{digits:?} is no length"));
        assert_eq!(format!("{length:x}"), digits);
        let chunk = &rest[line + 2..];
        if chunk.len() < length + 2 {
            body.extend_from_slice(&chunk[..chunk.len().min(length)]);
            return (head, body, false);
        }
        assert_eq!(&chunk[length..length + 2], b"\r\n", "a chunk ends where it says");
        rest = &chunk[length + 2..];
        if length == 0 {
            assert_eq!(rest, b"", "nothing follows the last chunk");
            return (head, body, true);
        }
        body.extend_from_slice(&chunk[..length]);
    }
    (head, body, false)
}

/// What a stream of this path says to a client that speaks HTTP/1.0, which hyper serves, and no loop.
async fn by_hyper(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> (String, Vec<u8>) {
    stream.write_all(request("GET", path, "HTTP/1.0", "").as_bytes()).await.unwrap();
    let answer = to_the_end(&mut stream).await;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end + 4..].to_vec())
}

const EVENTS: usize = 6_000;
const PATHS: [&str; 4] = ["", "?format=raw", "?format=message", "?last_event_id=0"];

/// Viewers that stop reading and go on as a seed says; some until the run is long over.
async fn crowd<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    count: usize,
    connect: impl AsyncFn(bool) -> S,
    begin: impl AsyncFnOnce(),
    ended: impl AsyncFnOnce(),
) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let over = CancellationToken::new();
    let mut viewers = Vec::new();
    for number in 0..count {
        let mut stream = connect(true).await;
        let over = over.clone();
        let mut chance = StdRng::seed_from_u64(seed ^ number as u64);
        let path = format!("/stream/demo/Steps/1{}", PATHS[number % PATHS.len()]);
        ask(&mut stream, &path).await;
        viewers.push(tokio::spawn(async move {
            let (mut got, mut piece) = (Vec::new(), vec![0; 64 << 10]);
            loop {
                match chance.random_range(0..100) {
                    0 => over.cancelled().await,
                    1..20 => tokio::task::yield_now().await,
                    _ => {}
                }
                let most = chance.random_range(1..piece.len());
                let read = stream.read(&mut piece[..most]);
                let count = timeout(DEADLINE, read).await.expect("bytes in time").unwrap();
                if count == 0 {
                    return got;
                }
                got.extend_from_slice(&piece[..count]);
            }
        }));
    }
    begin().await;
    ended().await;
    over.cancel();
    let mut expected = Vec::new();
    for more in PATHS {
        expected.push(by_hyper(connect(false).await, &format!("/stream/demo/Steps/1{more}")).await.1);
    }
    for (number, got) in join_all(viewers).await.into_iter().enumerate() {
        let (_, body, is_ended) = taken_apart(&got.unwrap());
        assert!(is_ended, "viewer {number}");
        assert!(body == expected[number % PATHS.len()], "viewer {number} got other bytes");
    }
    let text = String::from_utf8(expected.swap_remove(1)).unwrap();
    assert_eq!(text.matches("\nid: ").count() + text.starts_with("id: ") as usize, EVENTS + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_200_viewers_that_stop_reading_and_go_on_as_they_like_get_every_byte() {
    let server = Server::with(silent()).await;
    let key: Key = "demo/Steps/1".parse().unwrap();
    let input = format!(r#"{{"input":{{"count":{EVENTS}}}}}"#);
    server.call("PUT", "/tasks/demo/Steps/1", &[crate::client::JSON], input).await;
    let connect = async |is_narrow| match is_narrow {
        true => narrow(server.address).await,
        false => TcpStream::connect(server.address).await.unwrap(),
    };
    let begin = async || drop(server.post("/tasks/demo/Steps/1/start", "").await);
    crowd(200, connect, begin, async || drop(server.coordinator.ended(&key, 1).await.unwrap())).await;
    server.until_viewers(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s5_viewers_on_a_unix_socket_get_every_byte_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = Listener::bind(&format!("unix:{}", path.display()), Exposure::Local).await.unwrap();
    let here = coordinator().await;
    let done = tokio::spawn(serve(listener, here.clone(), silent()));
    let key: Key = "demo/Steps/1".parse().unwrap();
    let input = soloist::Json::parse(&format!(r#"{{"count":{EVENTS}}}"#)).unwrap();
    here.create(soloist::NewTask::named(key.clone(), input)).await.unwrap();
    let connect = async |_| UnixStream::connect(&path).await.unwrap();
    let begin = async || drop(here.start(&key, soloist::StartOptions::default()).await.unwrap());
    crowd(50, connect, begin, async || drop(here.ended(&key, 1).await.unwrap())).await;
    done.abort();
}

#[tokio::test]
async fn requests_before_a_stream_are_answered_on_its_connection_and_none_after_it() {
    let server = Server::with(silent()).await;
    let key = server.started("Steps", "1", r#"{"count":3}"#).await;
    server.watch(&format!("/stream/{key}")).await.events().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let health = request("GET", "/health", "HTTP/1.1", "");
    let all =
        format!("{health}{health}{}{health}", request("GET", &format!("/stream/{key}"), "HTTP/1.1", ""));
    stream.write_all(all.as_bytes()).await.unwrap();
    let got = to_the_end(&mut stream).await;
    let begin = got.windows(17).rposition(|bytes| bytes == b"HTTP/1.1 200 OK\r\n").unwrap();
    let before = std::str::from_utf8(&got[..begin]).unwrap();
    assert_eq!(before.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{before}");
    assert!(!before.contains("connection: close"), "{before}");
    let (head, body, is_ended) = taken_apart(&got[begin..]);
    assert!(head.contains("\r\nconnection: close\r\n") && is_ended, "{head}");
    assert_eq!(
        body,
        by_hyper(TcpStream::connect(server.address).await.unwrap(), &format!("/stream/{key}")).await.1
    );
}

fn headers(head: &str) -> Vec<&str> {
    let own = ["date", "connection", "transfer-encoding", "content-length"];
    let mut lines: Vec<_> =
        head.lines().skip(1).filter(|line| !own.contains(&line.split(':').next().unwrap())).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn the_head_of_a_stream_is_the_one_that_every_other_answer_has() {
    let origin = "https://app.example.com";
    let options = ServerOptions { cors_origins: vec![origin.into()], ..silent() };
    let server = Server::with(options).await;
    let key = server.started("Steps", "1", r#"{"count":3}"#).await;
    server.watch(&format!("/stream/{key}")).await.events().await;
    let heads = async |method: &str, version: &str| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let more = format!("Origin: {origin}\r\n");
        let asked = request(method, &format!("/stream/{key}"), version, &more);
        stream.write_all(asked.as_bytes()).await.unwrap();
        if method == "HEAD" {
            // Its connection stays, and takes the next one.
            stream
                .write_all(request("GET", "/nowhere", "HTTP/1.1", "Connection: close\r\n").as_bytes())
                .await
                .unwrap();
        }
        let got = to_the_end(&mut stream).await;
        String::from_utf8(got).unwrap()
    };
    let handed_over = heads("GET", "HTTP/1.1").await;
    let (head, ..) = taken_apart(handed_over.as_bytes());
    for wanted in [
        "access-control-allow-origin: https://app.example.com",
        "vary: origin",
        "x-content-type-options: nosniff",
    ] {
        assert!(headers(&head).contains(&wanted), "{head}");
    }
    let date = head.lines().find_map(|line| line.strip_prefix("date: ")).unwrap();
    assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
    let by_hyper = heads("GET", "HTTP/1.0").await;
    let by_hyper = by_hyper.split("\r\n\r\n").next().unwrap();
    assert!(!by_hyper.contains("chunked"), "{by_hyper}");
    assert_eq!(headers(&head), headers(by_hyper));
    let looked = heads("HEAD", "HTTP/1.1").await;
    let (looked, next) = looked.split_once("\r\n\r\n").unwrap();
    assert_eq!(headers(&head), headers(looked));
    assert!(next.starts_with("HTTP/1.1 404 "), "{next}");
}

/// A viewer whose log is more than all buffers between hold, and which does not read.
async fn stalled(server: &Server) -> TcpStream {
    let key = server.started("Steps", "1", r#"{"count":60000}"#).await;
    server.coordinator.ended(&key.parse().unwrap(), 1).await.unwrap();
    let mut stream = narrow(server.address).await;
    ask(&mut stream, &format!("/stream/{key}")).await;
    server.until_viewers(1).await;
    // The head is there, so the loop has it.
    stream.readable().await.unwrap();
    stream
}

#[tokio::test]
async fn a_stream_that_is_cut_off_is_not_ended() {
    let options = ServerOptions { stop_wait: Duration::from_millis(100), ..silent() };
    let mut server = Server::with(options).await;
    let mut stream = stalled(&server).await;
    server.stop.cancel();
    timeout(DEADLINE, &mut server.done).await.expect("stopped in time").unwrap().unwrap();
    server.until_viewers(0).await;
    let (_, _, is_ended) = taken_apart(&to_the_end(&mut stream).await);
    assert!(!is_ended);
}

#[tokio::test]
async fn a_client_that_is_killed_while_it_does_not_read_is_noticed() {
    let server = Server::with(silent()).await;
    let stream = stalled(&server).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    server.until_viewers(0).await;
}

#[tokio::test]
async fn who_catches_up_as_the_server_stops_gets_all_that_there_is() {
    let server = Server::with(silent()).await;
    let mut stream = stalled(&server).await;
    server.stop.cancel();
    let (_, body, is_ended) = taken_apart(&to_the_end(&mut stream).await);
    let body = String::from_utf8(body).unwrap();
    assert!(is_ended);
    assert_eq!(body.matches("\nid: ").count(), 60_001);
    assert!(!body.contains("the server is stopping"), "the run has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_talks_without_end_holds_up_nobody() {
    let server = Server::with(silent()).await;
    let key = server.started("Hold", "1", "{}").await;
    let mut talks = Vec::new();
    for _ in 0..4 {
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        std::io::Write::write_all(
            &mut stream,
            request("GET", &format!("/stream/{key}"), "HTTP/1.1", "").as_bytes(),
        )
        .unwrap();
        talks.push(std::thread::spawn(move || {
            let words = vec![b'x'; 1 << 20];
            while std::io::Write::write_all(&mut stream, &words).is_ok() {}
        }));
    }
    server.until_viewers(4).await;
    let mut viewer = server.watch(&format!("/stream/{key}")).await;
    assert_eq!(viewer.event().await.unwrap().event_type, "start");
    server.post(&format!("/tasks/{key}/signals/go"), "").await;
    assert_eq!(viewer.event().await.unwrap().event_type, "complete");
    for talk in talks {
        talk.join().unwrap();
    }
}

/// A store of which pages of logs are read as a test says.
struct Pages {
    store: MemoryStore,
    reads: AtomicUsize,
    /// As many reads may go on.
    gate: Semaphore,
    is_away: AtomicBool,
    is_broken: AtomicBool,
}

#[async_trait]
impl Between for Pages {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn before(&self, call: Call<'_>) -> StoreResult<()> {
        if !matches!(call, Call::Events) {
            return Ok(());
        }
        self.reads.fetch_add(1, SeqCst);
        self.gate.acquire().await.unwrap().forget();
        if self.is_away.load(SeqCst) {
            return Err(StoreError::Unavailable("cannot be reached".into()));
        }
        assert!(!self.is_broken.load(SeqCst), "a store that breaks");
        Ok(())
    }
}

/// A server, and a log that was written elsewhere.
async fn reads(count: u32, options: ServerOptions) -> (Arc<Line<Pages>>, Server) {
    let pages = Pages {
        store: MemoryStore::new(),
        reads: AtomicUsize::new(0),
        gate: Semaphore::new(0),
        is_away: AtomicBool::new(false),
        is_broken: AtomicBool::new(false),
    };
    let line = Arc::new(Line(pages));
    let elsewhere = Server::on(coordinator_on(Arc::new(line.store.clone())).await, silent()).await;
    let key = elsewhere.started("Steps", "1", &format!(r#"{{"count":{count}}}"#)).await;
    elsewhere.coordinator.ended(&key.parse().unwrap(), 1).await.unwrap();
    let server = Server::on(coordinator_on(line.clone()).await, options).await;
    (line, server)
}

async fn until_read(line: &Line<Pages>, count: usize) {
    let reached = async {
        while line.reads.load(SeqCst) < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, reached).await.expect("a read in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_read_once_for_100_viewers_and_not_once_for_each() {
    const PAGES: usize = 20;
    let (line, server) = reads(1_000 * PAGES as u32 - 1, silent()).await;
    let mut viewers = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        ask(&mut stream, "/stream/demo/Steps/1").await;
        viewers.push(stream);
    }
    server.until_viewers(100).await;
    until_read(&line, 1).await;
    for stream in &viewers {
        // Its head is there.
        stream.readable().await.unwrap();
    }
    line.gate.add_permits(1 << 20);
    let read =
        viewers.into_iter().map(|mut stream| tokio::spawn(async move { to_the_end(&mut stream).await }));
    for got in join_all(read).await {
        let (_, body, is_ended) = taken_apart(&got.unwrap());
        assert!(is_ended && String::from_utf8(body).unwrap().matches("\nid: ").count() == 1_000 * PAGES);
    }
    let reads = line.reads.load(SeqCst);
    println!("{reads} reads for {PAGES} pages");
    assert!((PAGES..5 * PAGES).contains(&reads), "{reads} reads for {PAGES} pages");
}

#[tokio::test]
async fn the_stream_of_a_task_that_is_deleted_while_its_log_is_read_ends() {
    let (line, server) = reads(10, silent()).await;
    let mut viewer = server.watch("/stream/demo/Steps/1").await;
    until_read(&line, 1).await;
    assert_eq!(server.call("DELETE", "/tasks/demo/Steps/1", &[], "").await.status, 204);
    line.gate.add_permits(1 << 20);
    assert_eq!(viewer.event().await, None);
    server.until_viewers(0).await;
}

#[tokio::test]
async fn who_waits_for_a_store_that_is_away_is_sent_away_by_a_stop() {
    let (line, mut server) = reads(10, ServerOptions { stop_wait: DEADLINE * 10, ..silent() }).await;
    let viewer = server.watch("/stream/demo/Steps/1").await;
    line.is_away.store(true, SeqCst);
    line.gate.add_permits(1 << 20);
    until_read(&line, 2).await;
    server.stop.cancel();
    let body = viewer.whole().await.body;
    assert!(body.contains("retry: ") && !body.contains("id: "), "{body}");
    timeout(DEADLINE, &mut server.done).await.expect("stopped in time").unwrap().unwrap();
}

#[tokio::test]
async fn who_waits_for_a_page_whose_reading_breaks_is_sent_away() {
    let (line, server) = reads(10, silent()).await;
    let viewer = server.watch("/stream/demo/Steps/1").await;
    line.is_broken.store(true, SeqCst);
    line.gate.add_permits(1 << 20);
    assert!(!viewer.whole().await.body.contains("id: "));
    line.is_broken.store(false, SeqCst);
    let again = server.send("GET", "/stream/demo/Steps/1", &[SSE], "").await;
    assert_eq!(again.events().await.len(), 11);
}
