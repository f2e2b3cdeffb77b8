//! The floor: what the kernel alone takes for a delivery.
//!
//! Decides: what no server on this machine can go below that hands each viewer its events with `write`: the same bytes to
//! as many sockets, in a loop, with nothing around it. One event a write is the price of a lone event; 16 and 64 are what
//! can be had where events wait anyway.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};

use crate::{Error, Result, report::Report, viewers::thread_cpu};

/// An event with its frame.
const FRAME_BYTES: usize = 256;
/// How many events go out with one write.
const BATCHES: [usize; 3] = [1, 16, 64];
/// How long each of them is measured.
const TIME: Duration = Duration::from_secs(1);
/// What one read takes at most.
const READ_BYTES: usize = 256 << 10;

/// Adds the CPU time of a delivery to so many sockets.
pub fn run(sockets: usize, report: &mut Report) -> Result<()> {
    for batch in BATCHES {
        let spent = write(sockets, batch).map_err(Error::io("the floor could not be measured"))?;
        report.lower(&format!("floor_{batch}_a_write"), spent.as_secs_f64() * 1e6, "us/delivery");
    }
    Ok(())
}

/// The CPU time for one event to one socket.
fn write(sockets: usize, batch: usize) -> std::io::Result<Duration> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let (mut near, mut far) = (Vec::with_capacity(sockets), Vec::with_capacity(sockets));
    for _ in 0..sockets {
        far.push(TcpStream::connect(address)?);
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        near.push(socket);
    }
    let reader = thread::Builder::new().name("floor".to_owned()).spawn(move || read(far))?;
    let frames = vec![b'x'; FRAME_BYTES * batch];
    let (begun, before) = (Instant::now(), thread_cpu());
    let mut rounds = 0_u32;
    while begun.elapsed() < TIME {
        for socket in &mut near {
            // Where the reader is late, this waits for it.
            socket.write_all(&frames)?;
        }
        rounds += 1;
    }
    let spent = thread_cpu() - before;
    drop(near);
    let read = reader.join().expect("the reader does not panic")?;
    let written = u64::from(rounds) * frames.len() as u64 * sockets as u64;
    if read != written {
        return Err(std::io::Error::new(ErrorKind::UnexpectedEof, format!("{read} of {written} bytes came")));
    }
    Ok(spent / rounds / u32::try_from(sockets * batch).unwrap_or(u32::MAX))
}

/// Reads all sockets to their ends; how many bytes came.
fn read(sockets: Vec<TcpStream>) -> std::io::Result<u64> {
    let mut poll = Poll::new()?;
    let mut open = Vec::with_capacity(sockets.len());
    for (i, socket) in sockets.into_iter().enumerate() {
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry().register(&mut socket, Token(i), Interest::READABLE)?;
        open.push(Some(socket));
    }
    let (mut ready, mut buffer) = (Events::with_capacity(1_024), vec![0; READ_BYTES]);
    let (mut left, mut bytes) = (open.len(), 0);
    while left > 0 {
        poll.poll(&mut ready, None)?;
        for event in &ready {
            let slot = &mut open[event.token().0];
            while let Some(socket) = slot {
                match socket.read(&mut buffer) {
                    Ok(0) => {
                        *slot = None;
                        left -= 1;
                    }
                    Ok(len) => {
                        bytes += len as u64;
                        if len < buffer.len() && !event.is_read_closed() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn many_events_a_write_cost_less_each_than_one() {
        let (one, many) = (write(20, 1).unwrap(), write(20, 64).unwrap());
        assert!(one > many * 2, "{one:?} {many:?}");
    }
}
