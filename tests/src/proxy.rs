//! A loopback proxy between a real client and the server: it passes bytes on, cuts streams in the middle, and serves
//! the page of a browser test, so that page and stream have one origin.
//!
//! A connection carries one request. A cut falls behind the response head: over plain HTTP a browser takes a head that
//! was cut short for a whole one, and one without its content type ends an `EventSource` for good.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
};

/// Where the proxy serves its page.
pub const PAGE: &str = "/-/page";
/// Where the page posts its result.
const RESULT: &str = "/-/result";

/// After how many bytes of a stream's body its connection is cut, and how.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    after: usize,
    /// By a reset, as a network does it; otherwise by an end in the middle of a chunk, as a dying peer does it.
    reset: bool,
}

/// So many random cuts, each within the first `within` bytes.
#[must_use]
pub fn cuts(seed: u64, count: usize, within: usize) -> Vec<Cut> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(|_| Cut { after: rng.random_range(0..within), reset: rng.random() }).collect()
}

/// What the proxy saw of one request for a stream.
#[derive(Debug, Clone, Default)]
pub struct Viewing {
    pub last_event_id: Option<u64>,
    /// None where the server was away.
    pub status: Option<u16>,
    /// When the proxy cut it.
    pub cut_at_ns: Option<u128>,
}

/// A running proxy. Dropping it ends its connections.
pub struct Proxy {
    /// `127.0.0.1:PORT`
    pub address: String,
    line: Arc<Line>,
    results: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
    accepting: AbortHandle,
}

/// What all connections share.
struct Line {
    server: String,
    page: &'static str,
    cuts: Mutex<VecDeque<Cut>>,
    viewings: Mutex<Vec<Viewing>>,
    passed: watch::Sender<usize>,
    result: mpsc::UnboundedSender<String>,
}

impl Proxy {
    /// Starts one before the server at that address. The first streams are cut, one by each of `cuts`.
    pub async fn start(server: &str, page: &'static str, cuts: Vec<Cut>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (result, results) = mpsc::unbounded_channel();
        let line = Arc::new(Line {
            server: server.to_owned(),
            page,
            cuts: Mutex::new(cuts.into()),
            viewings: Mutex::default(),
            passed: watch::channel(0).0,
            result,
        });
        let accepting = tokio::spawn(accept(listener, line.clone())).abort_handle();
        Self { address, line, results: tokio::sync::Mutex::new(results), accepting }
    }

    /// What the page has posted.
    pub async fn result(&self) -> String {
        self.results.lock().await.recv().await.expect("the proxy runs")
    }

    /// Every request for a stream so far, in the order of arrival.
    #[must_use]
    pub fn viewings(&self) -> Vec<Viewing> {
        self.line.viewings.lock().unwrap().clone()
    }

    /// Waits until so many bytes of stream bodies have been passed on.
    pub async fn passed(&self, bytes: usize) {
        self.line.passed.subscribe().wait_for(|passed| *passed >= bytes).await.expect("the proxy runs");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, line: Arc<Line>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let line = line.clone();
        // A connection that breaks is the business of its two ends.
        connections.spawn(async move { drop(serve(client, &line).await) });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut client: TcpStream, line: &Line) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (head, rest) = read_head(&mut client).await?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    if path.starts_with(PAGE) {
        return answer(&mut client, "200 OK", line.page).await;
    }
    if path == RESULT {
        let length: usize =
            field(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = rest;
        let missing = length.saturating_sub(body.len()) as u64;
        (&mut client).take(missing).read_to_end(&mut body).await?;
        let _ = line.result.send(String::from_utf8(body).expect("the page posts JSON"));
        return answer(&mut client, "200 OK", "").await;
    }
    let viewing = path.starts_with("/stream/").then(|| {
        let last_event_id =
            field(&head, "last-event-id").map(|id| id.parse().expect("a number came as the id"));
        line.open_viewing(last_event_id)
    });
    let mut server = TcpStream::connect(&line.server).await?;
    server.set_nodelay(true)?;
    server.write_all(one_request(&head).as_bytes()).await?;
    server.write_all(&rest).await?;
    let (mut from_server, mut to_server) = server.split();
    let reset = {
        let (mut from_client, mut to_client) = client.split();
        tokio::select! {
            _ = tokio::io::copy(&mut from_client, &mut to_server) => false,
            cut = line.pass_answer(&mut from_server, &mut to_client, viewing) => cut?.is_some_and(|cut| cut.reset),
        }
    };
    if reset { client.set_zero_linger() } else { client.shutdown().await }
}

impl Line {
    /// Passes an answer on to its end, or to its cut.
    async fn pass_answer(
        &self,
        server: &mut (impl AsyncRead + Unpin),
        client: &mut (impl AsyncWriteExt + Unpin),
        viewing: Option<usize>,
    ) -> io::Result<Option<Cut>> {
        let (head, mut bytes) = read_head(server).await?;
        client.write_all(head.as_bytes()).await?;
        let status: Option<u16> = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut cut = None;
        if let Some(viewing) = viewing {
            self.viewings.lock().unwrap()[viewing].status = status;
            cut = if status == Some(200) { self.cuts.lock().unwrap().pop_front() } else { None };
        }
        let mut left = cut.map_or(usize::MAX, |cut| cut.after);
        loop {
            let now = bytes.len().min(left);
            client.write_all(&bytes[..now]).await?;
            left -= now;
            if let Some(viewing) = viewing {
                self.passed.send_modify(|passed| *passed += now);
                if left == 0 {
                    self.viewings.lock().unwrap()[viewing].cut_at_ns = Some(now_ns());
                    return Ok(cut);
                }
            }
            bytes.resize(16 << 10, 0);
            let read = server.read(&mut bytes).await?;
            bytes.truncate(read);
            if read == 0 {
                return Ok(None);
            }
        }
    }

    /// Notes a request for a stream; its place in the list.
    fn open_viewing(&self, last_event_id: Option<u64>) -> usize {
        let mut viewings = self.viewings.lock().unwrap();
        viewings.push(Viewing { last_event_id, ..Viewing::default() });
        viewings.len() - 1
    }
}

/// A request or response head with the empty line that ends it, and what came behind it.
async fn read_head(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if from.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8(bytes).expect("a head is text"), rest));
        }
    }
}

/// The value of a header field.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The head with `Connection: close`, so that the server closes behind its answer.
fn one_request(head: &str) -> String {
    let kept =
        head.lines().filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("connection:"));
    kept.chain(["Connection: close", "", ""]).collect::<Vec<_>>().join("\r\n")
}

async fn answer(client: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(body.as_bytes()).await?;
    client.shutdown().await
}

fn now_ns() -> u128 {
    std::time::UNIX_EPOCH.elapsed().expect("the clock stands after 1970").as_nanos()
}
