//! Many connections on one thread, each with one request under way: the load of a measurement.
//!
//! Decides: when a request is sent (as soon as the answer before it was read) and what counts into a rate: answers that
//! came before the time was up. Nothing is allocated for a request; requests are written from bytes that were made before.

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    error::{Error, Result},
    http::{Answer, Reader},
};

/// How long a server may say nothing at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked, and what must be true of the answers.
pub trait Driver {
    /// Puts the next request of a connection into `to`, which is empty.
    fn request(&mut self, connection: usize, to: &mut Vec<u8>);

    /// Looks at the answer.
    fn answer(&mut self, connection: usize, answer: Answer<'_>, took: Duration) -> Result<()>;
}

/// What a stretch of load was.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stretch {
    /// Answers that came in time.
    pub in_time: u64,
    /// All of them: at the end each connection waits for its last one.
    pub all: u64,
    /// How long requests were sent.
    pub time: Duration,
}

impl Stretch {
    /// Answers a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.in_time as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// Adds another stretch of the same load.
    pub fn add(&mut self, other: Self) {
        self.in_time += other.in_time;
        self.all += other.all;
        self.time += other.time;
    }
}

/// The connections.
#[derive(Debug)]
pub struct Load {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    /// The server takes no further request on it.
    closes: bool,
    reader: Reader,
    request: Vec<u8>,
    written: usize,
    sent: Option<Instant>,
}

impl Load {
    /// Connects so many times, to each address in turn.
    pub fn connect(addresses: &[SocketAddr], count: usize) -> Result<Self> {
        let poll = Poll::new().map_err(Error::io("cannot make a poll"))?;
        let mut connections = Vec::with_capacity(count);
        for (i, address) in addresses.iter().cycle().take(count).enumerate() {
            connections.push(Connection {
                address: *address,
                stream: open(&poll, i, *address)?,
                closes: false,
                reader: Reader::default(),
                request: Vec::new(),
                written: 0,
                sent: None,
            });
        }
        Ok(Self { poll, events: Events::with_capacity(1024), connections })
    }

    /// Asks on all connections for so long, then waits for the last answers.
    pub fn run(&mut self, time: Duration, driver: &mut impl Driver) -> Result<Stretch> {
        self.run_while(driver, |_, since| since < time)
    }

    /// Asks once on each connection.
    pub fn once(&mut self, driver: &mut impl Driver) -> Result<Stretch> {
        let count = self.connections.len() as u64;
        self.run_while(driver, |asked, _| asked < count)
    }

    /// Asks as long as `goes_on`, which is given how often it was asked and since when.
    fn run_while(
        &mut self,
        driver: &mut impl Driver,
        goes_on: impl Fn(u64, Duration) -> bool,
    ) -> Result<Stretch> {
        let begun = Instant::now();
        let mut stretch = Stretch::default();
        let (mut asked, mut waiting, mut is_over) = (0, 0_usize, false);
        for (i, connection) in self.connections.iter_mut().enumerate() {
            if goes_on(asked, begun.elapsed()) {
                connection.ask(&self.poll, i, driver)?;
                asked += 1;
                waiting += 1;
            }
        }
        let mut heard = Instant::now();
        while waiting > 0 {
            match self.poll.poll(&mut self.events, Some(Duration::from_secs(1))) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                done => done.map_err(Error::io("cannot poll"))?,
            }
            for event in &self.events {
                let i = event.token().0;
                let connection = &mut self.connections[i];
                connection.write()?;
                if !connection.read()? {
                    continue;
                }
                heard = Instant::now();
                let since = heard - begun;
                // The end is where the first answer comes too late, however many are still under way then.
                if !is_over && !goes_on(asked, since) {
                    is_over = true;
                    stretch.time = since;
                }
                stretch.all += 1;
                stretch.in_time += u64::from(!is_over);
                connection.take(i, heard, driver)?;
                if is_over {
                    waiting -= 1;
                } else {
                    connection.ask(&self.poll, i, driver)?;
                    asked += 1;
                }
            }
            if heard.elapsed() > PATIENCE {
                return Err(Error::Wrong(format!("{waiting} requests had no answer in {PATIENCE:?}")));
            }
        }
        Ok(stretch)
    }
}

/// A connection whose events have this number.
fn open(poll: &Poll, i: usize, address: SocketAddr) -> Result<TcpStream> {
    let unreachable = |source: io::Error| Error::unreachable(address, source);
    let stream = std::net::TcpStream::connect(address).map_err(unreachable)?;
    stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).map_err(unreachable)?;
    let mut stream = TcpStream::from_std(stream);
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut stream, Token(i), interest).map_err(unreachable)?;
    Ok(stream)
}

impl Connection {
    fn ask(&mut self, poll: &Poll, i: usize, driver: &mut impl Driver) -> Result<()> {
        if std::mem::take(&mut self.closes) {
            self.stream = open(poll, i, self.address)?;
        }
        self.request.clear();
        self.written = 0;
        driver.request(i, &mut self.request);
        self.reader.next();
        self.sent = Some(Instant::now());
        self.write()
    }

    /// Writes as much as can be.
    fn write(&mut self) -> Result<()> {
        while self.written < self.request.len() {
            match self.stream.write(&self.request[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.broke(e)),
            }
        }
        Ok(())
    }

    /// Reads what is there; whether the answer is complete.
    fn read(&mut self) -> Result<bool> {
        if self.sent.is_none() {
            return Ok(false);
        }
        loop {
            match self.reader.read(&mut self.stream) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.broke(e)),
            }
        }
    }

    fn take(&mut self, i: usize, now: Instant, driver: &mut impl Driver) -> Result<()> {
        match (self.sent.take(), self.reader.answer()) {
            (Some(sent), Some(answer)) => {
                self.closes = answer.closes();
                driver.answer(i, answer, now - sent)
            }
            _ => Err(Error::Wrong("an answer that nobody asked for".into())),
        }
    }

    fn broke(&self, source: io::Error) -> Error {
        Error::Unreachable { address: self.address.to_string(), source }
    }
}
