//! An endpoint of raw sockets: each byte that it sends is chosen by the test.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::world::DEADLINE;

/// A call, as it stood on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The first line.
    pub(crate) line: String,
    /// The lines of the headers, as they came.
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter_map(|line| {
            let (it, value) = line.split_once(':')?;
            it.eq_ignore_ascii_case(name).then(|| value.trim_start())
        });
        let value = named.next();
        assert!(named.next().is_none(), "{name} came twice");
        value
    }

    /// All headers by their names in lower case.
    pub(crate) fn names(&self) -> BTreeMap<String, String> {
        let pairs = self.headers.iter().map(|line| line.split_once(':').expect("a header has a colon"));
        pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.trim_start().to_owned())).collect()
    }
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A call that waits for its answer. The connection is closed with it.
pub(crate) struct Call {
    /// Which connection it is, from 0.
    pub(crate) nth: usize,
    pub(crate) request: Request,
    wire: Box<dyn Wire>,
    seen: Arc<Seen>,
}

impl Call {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            let taken = self.wire.write(rest).await?;
            self.seen.sent.fetch_add(taken, Ordering::Relaxed);
            rest = &rest[taken..];
        }
        self.wire.flush().await
    }

    /// Waits until the caller has closed the connection.
    pub(crate) async fn hung_up(&mut self) -> io::Result<()> {
        let mut more = [0; 64];
        while !matches!(self.wire.read(&mut more).await, Ok(0) | Err(_)) {}
        self.seen.left.send_replace(Some(Instant::now()));
        Ok(())
    }
}

struct Seen {
    connections: AtomicUsize,
    sent: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    arrived: watch::Sender<usize>,
    left: watch::Sender<Option<Instant>>,
}

pub(crate) struct Upstream {
    pub(crate) port: u16,
    seen: Arc<Seen>,
    serving: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Upstream {
    /// Answers each call by a script.
    pub(crate) async fn of<S, F>(script: S) -> Self
    where
        S: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::with(None, script).await
    }

    /// Answers every call with the same bytes.
    pub(crate) async fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into().into();
        Self::of(move |mut call| {
            let bytes = Arc::clone(&bytes);
            async move { call.send(bytes).await }
        })
        .await
    }

    /// The same as `of`, over TLS where there is an acceptor.
    pub(crate) async fn with<S, F>(tls: Option<TlsAcceptor>, script: S) -> Self
    where
        S: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen {
            connections: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            requests: Mutex::default(),
            arrived: watch::Sender::new(0),
            left: watch::Sender::new(None),
        });
        let (script, shared) = (Arc::new(script), Arc::clone(&seen));
        let serving = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let nth = shared.connections.fetch_add(1, Ordering::Relaxed);
                let (script, seen, tls) = (Arc::clone(&script), Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    socket.set_nodelay(true)?;
                    let mut wire: Box<dyn Wire> = match tls {
                        Some(tls) => Box::new(tls.accept(socket).await?),
                        None => Box::new(socket),
                    };
                    let request = request(&mut wire).await?;
                    seen.requests.lock().unwrap().push(request.clone());
                    seen.arrived.send_modify(|count| *count += 1);
                    script(Call { nth, request, wire, seen }).await
                });
            }
        });
        Self { port, seen, serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// Bytes that were taken from its scripts.
    pub(crate) fn sent(&self) -> usize {
        self.seen.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Waits until so many calls have arrived.
    pub(crate) async fn arrived(&self, count: usize) {
        let mut arrived = self.seen.arrived.subscribe();
        let wait = arrived.wait_for(|arrived| *arrived >= count);
        tokio::time::timeout(DEADLINE, wait).await.expect("the call arrives").unwrap();
    }

    /// When a caller that a script waited for had closed its connection.
    pub(crate) async fn left(&self) -> Instant {
        let mut left = self.seen.left.subscribe();
        let wait = left.wait_for(Option::is_some);
        let left = tokio::time::timeout(DEADLINE, wait).await.expect("the caller closes its connection");
        left.unwrap().expect("it is some")
    }

    /// The same, of one that did so after a point in time.
    pub(crate) async fn left_after(&self, point: Instant) -> Instant {
        let mut left = self.seen.left.subscribe();
        let wait = left.wait_for(|left| *left > Some(point));
        let left = tokio::time::timeout(DEADLINE, wait).await.expect("the caller closes its connection");
        left.unwrap().expect("it is some")
    }
}

/// Reads the head of a call and the body that its length says.
async fn request(wire: &mut Box<dyn Wire>) -> io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(wire.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n").map(str::to_owned);
    let line = lines.next().unwrap();
    let mut request = Request { line, headers: lines.collect(), body: Vec::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    request.body.resize(length, 0);
    wire.read_exact(&mut request.body).await?;
    Ok(request)
}
