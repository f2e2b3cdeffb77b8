//! What a node, its guard and its attempt processes say to each other, and how descriptors go along.
//!
//! Decides: the bytes. Both ends are the same program, so there is one version of them and nothing else may speak them.
//!
//! - node to guard: [`HERE`] for each attempt, with the attempt's end of a control socket; [`LEASE`] and a moment of the
//!   boot clock in nanoseconds, whenever the node's lease was renewed.
//! - node to attempt process, on the control socket: the length of a [`Request`] with the command's stdin, stdout and
//!   stderr, then the request; later [`TERM`] or [`KILL`]. Its end means [`KILL`], and that nobody listens any more.
//! - attempt process to node: [`Answer`]s.
//!
//! Never waits for longer than one call does.

use std::{
    ffi::{OsStr, OsString},
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags,
    },
    process::Pid,
};

/// Asks an attempt process for SIGTERM to the command's process group.
pub(super) const TERM: u8 = b't';
/// Asks an attempt process for SIGKILL to all that is below it.
pub(super) const KILL: u8 = b'k';
/// Asks the guard for an attempt process; from the guard, says that it is there.
pub(super) const HERE: u8 = b'h';
/// Tells the guard until when commands may run: this byte, then the moment.
const LEASE: u8 = b'l';

/// A command as an attempt process is to execute it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    /// The whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) dir: Option<OsString>,
}

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        let env = self.env.iter().flat_map(|(name, value)| [name, value]);
        let words = [&self.program].into_iter().chain(&self.dir).chain(&self.arguments).chain(env);
        let mut bytes = vec![u8::from(self.dir.is_some())];
        bytes.extend(length(self.env.len()));
        for word in words {
            bytes.extend(length(word.len()));
            bytes.extend(word.as_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (has_dir, rest) = bytes.split_first()?;
        let (variables, mut rest) = rest.split_first_chunk()?;
        let mut words = Vec::new();
        while let Some((bytes, after)) = rest.split_first_chunk() {
            let (word, after) = after.split_at_checked(u32::from_le_bytes(*bytes) as usize)?;
            words.push(OsStr::from_bytes(word).to_owned());
            rest = after;
        }
        let env = words.split_off(words.len().checked_sub(2 * u32::from_le_bytes(*variables) as usize)?);
        let mut words = words.into_iter();
        Some(Self {
            program: words.next()?,
            dir: if *has_dir == 1 { Some(words.next()?) } else { None },
            arguments: words.collect(),
            env: env.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
        })
    }
}

/// A length, as it is written.
pub(super) fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("what a command is given is bounded").to_le_bytes()
}

/// What an attempt process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The command has begun. The pid is that of the attempt process.
    Began(Pid),
    /// The command could not be executed; why, as an `errno`.
    Refused(i32),
    /// The exit that follows is known, but not all that was below the command is gone yet.
    Remains,
    /// The command has exited with this wait status.
    Exited(i32),
}

impl Answer {
    pub(super) const BYTES: usize = 5;

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        let (kind, value) = match self {
            Self::Began(pid) => (b'b', pid.as_raw_pid()),
            Self::Refused(errno) => (b'r', errno),
            Self::Remains => (b'm', 0),
            Self::Exited(status) => (b'x', status),
        };
        let [a, b, c, d] = value.to_le_bytes();
        [kind, a, b, c, d]
    }

    pub(super) fn decode([kind, a, b, c, d]: [u8; Self::BYTES]) -> Option<Self> {
        let value = i32::from_le_bytes([a, b, c, d]);
        match kind {
            b'b' => Pid::from_raw(value).map(Self::Began),
            b'r' => Some(Self::Refused(value)),
            b'm' => Some(Self::Remains),
            b'x' => Some(Self::Exited(value)),
            _ => None,
        }
    }

    /// Says it, if anybody listens.
    pub(super) fn send(self, control: BorrowedFd<'_>) {
        let _ = rustix::net::send(control, &self.encode(), SendFlags::NOSIGNAL);
    }

    /// Why something could not be executed, as an answer.
    pub(super) fn refused(error: &io::Error) -> Self {
        Self::Refused(error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error()))
    }
}

/// Most descriptors that go along with a message.
const MOST: usize = 3;

/// Sends a few bytes and descriptors, all or nothing.
pub(super) fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    assert_eq!(sent, bytes.len(), "a few bytes fit into a socket, or do not");
    Ok(())
}

/// Receives what one [`send`] has sent: the bytes of it that fit, and its descriptors. No byte: the other end is closed.
pub(super) fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(bytes)], &mut ancillary, flags)
    })?;
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok((received.bytes, descriptors.flatten().collect()))
}

/// What a node tells its guard.
#[derive(Debug)]
pub(super) enum Order {
    /// Begin an attempt process with this end of its control socket.
    Attempt(OwnedFd),
    /// Commands may run until this moment of the boot clock.
    Lease(Duration),
}

/// [`Order::Lease`] as it is sent.
pub(super) fn lease(until: Duration) -> [u8; 9] {
    let nanos = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
    let mut said = [LEASE; 9];
    said[1..].copy_from_slice(&nanos.to_le_bytes());
    said
}

/// Receives the next order; none where the node is gone.
pub(super) fn from_node(socket: impl AsFd) -> io::Result<Option<Order>> {
    let mut kind = [0];
    let (bytes, mut sockets) = receive(&socket, &mut kind)?;
    match (bytes, kind, sockets.pop()) {
        (1, [HERE], Some(control)) => Ok(Some(Order::Attempt(control))),
        (1, [LEASE], None) => {
            // The rest was sent with it, so it is there.
            let mut nanos = [0; 8];
            let (bytes, _) = receive(&socket, &mut nanos)?;
            let until = Duration::from_nanos(u64::from_le_bytes(nanos));
            if bytes == nanos.len() { Ok(Some(Order::Lease(until))) } else { Ok(None) }
        }
        (0, ..) => Ok(None),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let word = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let full = Request {
            program: word(b"sh"),
            arguments: vec![word(b""), word(b"a b"), word(b"\xff\n")],
            env: vec![(word(b"A"), word(b"")), (word(b"B"), word(b"x=y\xfe"))],
            dir: Some(word(b"/")),
        };
        let bare = Request { program: word(b"true"), ..Request::default() };
        for request in [full, bare] {
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Some(request));
            for cut in 0..bytes.len() {
                // Whatever comes of a part, it is no panic.
                let _ = Request::decode(&bytes[..cut]);
            }
        }
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let pid = rustix::process::getpid();
        for answer in [Answer::Began(pid), Answer::Refused(2), Answer::Remains, Answer::Exited(0x80 | 11)] {
            assert_eq!(Answer::decode(answer.encode()), Some(answer));
        }
        assert_eq!(Answer::decode([0; 5]), None);
    }

    #[test]
    fn orders_that_are_sent_at_once_are_read_one_by_one() {
        let (node, guard) = std::os::unix::net::UnixStream::pair().unwrap();
        let until = Duration::new(7, 11);
        send(&node, &lease(until), &[]).unwrap();
        send(&node, &[HERE], &[guard.as_fd()]).unwrap();
        send(&node, &lease(2 * until), &[]).unwrap();
        send(&node, &lease(3 * until), &[]).unwrap();
        drop(node);
        let next = || from_node(&guard).unwrap();
        assert!(matches!(next(), Some(Order::Lease(at)) if at == until));
        assert!(matches!(next(), Some(Order::Attempt(_))));
        assert!(matches!(next(), Some(Order::Lease(at)) if at == 2 * until));
        assert!(matches!(next(), Some(Order::Lease(at)) if at == 3 * until));
        assert!(next().is_none());
    }

    #[test]
    fn descriptors_go_along_with_the_bytes_that_they_were_sent_with() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let (read, write) = std::io::pipe().unwrap();
        send(&a, b"1", &[read.as_fd()]).unwrap();
        send(&a, b"23", &[read.as_fd(), write.as_fd()]).unwrap();
        drop(a);
        let mut bytes = [0; 8];
        let mut next =
            || receive(&b, &mut bytes).map(|(count, descriptors)| (count, descriptors.len())).unwrap();
        assert_eq!((next(), next(), next()), ((1, 1), (2, 2), (0, 0)));
    }
}
