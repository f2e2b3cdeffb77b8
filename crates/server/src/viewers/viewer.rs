//! One viewer: a socket and a place in the log.
//!
//! Decides: which bytes go out next. Frames travel in chunks of HTTP/1.1 (RFC 9112, section 7.1), each chunk whole events, so
//! that a client tells a stream that was cut off from one that has ended. What is ready goes out in one write.
//!
//! Never keeps a frame for a viewer that does not read: where a write stops in the middle it notes how far it came (the last
//! event that is whole, the bytes of the next one, what the chunk still has to hold) and finds those bytes again, since a
//! frame is the same however often it is made. So a viewer that stalls costs what one costs that waits.

use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use soloist::{
    Audience, Delivery, Looked, Place, Seq, Viewed,
    event::{Batch, Slice},
    limits,
};
use soloist_wire::sse::{self, Format, Source};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::{convert, frames, state::Ids};

/// The end of a chunk.
const CRLF: &[u8] = b"\r\n";
/// The end of the last one.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Up to this size what many viewers are sent is laid out in one piece, which is cheaper to write than several.
const ONE_PIECE_BYTES: usize = 8 << 10;

/// What all viewers of a log have in common.
pub(super) struct Frames {
    pub(super) audience: Audience,
    pub(super) source: Source,
    pub(super) ids: Ids,
}

impl Frames {
    fn encoded(&self, slice: &Slice, format: Format) -> Bytes {
        slice.encoded(convert::slot(format), |event, out| {
            convert::frame(&self.source, format, self.ids, event, out);
        })
    }

    fn split_at(&self, slice: &Slice, format: Format, bytes: usize) -> (Option<Seq>, usize) {
        let encode = |event: &soloist::Event, out: &mut Vec<u8>| {
            convert::frame(&self.source, format, self.ids, event, out);
        };
        slice.split_at(convert::slot(format), encode, bytes)
    }
}

/// Some events that follow each other, as frames.
struct Part {
    slice: Slice,
    /// Frames of the slice, without the first `skipped` bytes.
    bytes: Bytes,
    skipped: usize,
    /// Where a viewer stands that got the whole slice.
    then: Place,
}

/// Events that are ready, laid out once for all viewers that stand at the same place.
pub(super) struct Ready {
    /// Where a viewer stands for whom this is. One that follows goes on where another one's stream ends.
    from: Place,
    format: Format,
    parts: Vec<Part>,
    frame_bytes: usize,
    /// The whole chunk, where it is small.
    chunk: Option<Vec<u8>>,
}

impl Ready {
    /// All that is ready for a viewer at this place, up to a bound; `first` and `then` are what it was just handed.
    fn gather(frames: &Frames, format: Format, from: Place, first: Slice, mut then: Place) -> Self {
        let (mut parts, mut frame_bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(slice) = next.take() {
            let bytes = frames.encoded(&slice, format);
            frame_bytes += bytes.len();
            parts.push(Part { slice, bytes, skipped: 0, then });
            if frame_bytes < limits::VIEWER_WRITE_BYTES && parts.len() < limits::VIEWER_WRITE_PARTS {
                let mut probe = then;
                if let Looked::Delivery(Delivery::Events(slice)) = frames.audience.look(&mut probe) {
                    (next, then) = (Some(slice), probe);
                }
            }
        }
        let chunk = (frame_bytes <= ONE_PIECE_BYTES).then(|| {
            let mut chunk = Vec::with_capacity(frame_bytes + 16);
            put_chunk_size(&mut chunk, frame_bytes);
            parts.iter().for_each(|part| chunk.extend_from_slice(&part.bytes));
            chunk.extend_from_slice(CRLF);
            chunk
        });
        Self { from, format, parts, frame_bytes, chunk }
    }
}

/// Where a viewer is after it was served.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// It has all that there is.
    Resting,
    /// Its socket takes no more.
    Blocked,
    /// What follows has to be read from the store, up to this seq.
    Behind(Seq),
    /// It has had its share, and there is more.
    Hungry,
    /// Nothing more is to be sent, or can be.
    Gone,
}

/// Whether viewers may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leave {
    /// They may.
    Stay,
    /// They are sent away once they have all that there is.
    AfterReading,
    /// They are sent away now.
    Now,
}

/// One viewer.
pub(super) struct Viewer<S> {
    pub(super) socket: S,
    pub(super) group: usize,
    /// Its index among the viewers of its group.
    pub(super) member: usize,
    pub(super) is_blocked: bool,
    pub(super) is_reading: bool,
    pub(super) is_hungry: bool,
    /// Something was written since the loop looked.
    pub(super) has_written: bool,
    /// When something was last written to it, in milliseconds of the loop's clock.
    pub(super) written_ms: u64,
    format: Format,
    place: Place,
    /// Bytes that go out before anything else: a head, a comment, the beginning or the end of a chunk.
    owed: Vec<u8>,
    /// How many bytes of frames the chunk that was begun still has to hold.
    left: usize,
    /// How many bytes of the frame after the place went out.
    skip: usize,
    /// What was written last ended a run.
    has_ended: bool,
    /// Nothing follows what is owed.
    is_closing: bool,
    _viewed: Viewed,
    _counted: TaskTrackerToken,
}

/// A viewer that was let in.
pub(super) struct Admitted {
    pub(super) format: Format,
    pub(super) ids: Ids,
    pub(super) place: Place,
    pub(super) viewed: Viewed,
    pub(super) counted: TaskTrackerToken,
    /// The head of the answer.
    pub(super) head: Vec<u8>,
}

impl<S: Read + Write> Viewer<S> {
    pub(super) fn new(socket: S, admitted: Admitted, group: usize, member: usize, now_ms: u64) -> Self {
        let Admitted { format, place, viewed, counted, head, ids: _ } = admitted;
        let mut viewer = Self {
            socket,
            group,
            member,
            is_blocked: false,
            is_reading: false,
            is_hungry: false,
            has_written: false,
            written_ms: now_ms,
            format,
            place,
            owed: head,
            left: 0,
            skip: 0,
            has_ended: false,
            is_closing: false,
            _viewed: viewed,
            _counted: counted,
        };
        viewer.owe(|out| sse::retry(out, limits::SSE_RETRY_MS));
        viewer
    }

    pub(super) fn cursor(&self) -> Seq {
        self.place.cursor()
    }

    /// Whether a chunk was begun that has to be ended.
    pub(super) fn is_in_chunk(&self) -> bool {
        self.left > 0
    }

    /// What it keeps of what it was not sent.
    #[cfg(test)]
    pub(super) fn owed_capacity(&self) -> usize {
        self.owed.capacity()
    }

    /// Writes what there is. `shared` is what the viewer before was given, for this one where it stands at the same place.
    /// `page` was read from the store for whoever is behind.
    pub(super) fn serve(
        &mut self,
        frames: &Frames,
        shared: &mut Option<Ready>,
        page: Option<&Arc<Batch>>,
        leave: Leave,
    ) -> Served {
        self.serve_all(frames, shared, page, leave).unwrap_or(Served::Gone)
    }

    /// A comment, so that nobody between takes a silent stream for a dead one; not in the middle of a chunk.
    pub(super) fn beat(&mut self, frames: &Frames) -> Served {
        if self.left > 0 || self.is_closing {
            return Served::Resting;
        }
        self.owe(|out| sse::comment(out, "heartbeat"));
        match self.write(frames, &[]) {
            Ok(true) => Served::Resting,
            Ok(false) => Served::Blocked,
            Err(_) => Served::Gone,
        }
    }

    /// Sends it away for this reason. False where that cannot be said: a chunk was begun, and what it was to hold is not
    /// to be had.
    #[must_use]
    pub(super) fn send_away(&mut self, why: &str) -> bool {
        if self.left > 0 {
            return false;
        }
        self.close_with(Some(why));
        true
    }

    /// What the client says is of no interest; false where it has gone. Who says more than is read here at once is
    /// asked again when more of it arrives: nobody keeps the loop for himself by talking.
    pub(super) fn is_there(&mut self) -> bool {
        let mut said = [0; 512];
        for _ in 0..limits::VIEWER_TALK_READS {
            match self.socket.read(&mut said) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn serve_all(
        &mut self,
        frames: &Frames,
        shared: &mut Option<Ready>,
        page: Option<&Arc<Batch>>,
        leave: Leave,
    ) -> io::Result<Served> {
        let mut share = limits::VIEWER_SHARE_BYTES;
        loop {
            // A chunk that was begun is ended first.
            if self.left > 0 {
                match self.go_on(frames, page)? {
                    Some(served) => return Ok(served),
                    None => continue,
                }
            }
            if leave == Leave::Now && !self.is_closing {
                self.close_with(Some(frames::STOPPING));
            }
            let (from, format) = (self.place, self.format);
            let is_for = |ready: &Ready| ready.from == from && ready.format == format;
            let is_plain = !self.is_closing && self.place.expects_events();
            let ready = match shared.take().filter(|ready| is_plain && is_for(ready)) {
                Some(ready) => ready,
                None => match self.look(frames, page, leave) {
                    Next::Ready(ready) => ready,
                    Next::Owed => match self.write(frames, &[])? {
                        true if self.is_closing => return Ok(Served::Gone),
                        true => continue,
                        false => return Ok(Served::Blocked),
                    },
                    Next::None(served) => return Ok(served),
                },
            };
            let written = self.write_ready(frames, &ready)?;
            share = share.saturating_sub(ready.frame_bytes);
            *shared = Some(ready);
            if !written {
                return Ok(Served::Blocked);
            }
            if share == 0 {
                return Ok(Served::Hungry);
            }
        }
    }

    fn look(&mut self, frames: &Frames, page: Option<&Arc<Batch>>, leave: Leave) -> Next {
        if self.is_closing {
            return Next::Owed;
        }
        let mut then = self.place;
        let looked = match frames.audience.look(&mut then) {
            Looked::InStore(until) => match page.filter(|page| page.last_seq() > then.cursor()) {
                Some(page) => Looked::Delivery(then.take(page)),
                None => Looked::InStore(until),
            },
            looked => looked,
        };
        match looked {
            Looked::Delivery(Delivery::Events(slice)) => {
                Next::Ready(Ready::gather(frames, self.format, self.place, slice, then))
            }
            Looked::Delivery(Delivery::Gap { reason, first_seq }) => {
                self.place = then;
                let (source, format) = (&frames.source, self.format);
                self.owe(|out| source.gap(out, format, reason.as_str(), first_seq));
                Next::Owed
            }
            // What is owed goes out before anything is waited for.
            Looked::InStore(_) | Looked::Nothing if !self.owed.is_empty() => Next::Owed,
            Looked::InStore(until) => Next::None(Served::Behind(until)),
            Looked::Nothing if leave == Leave::Stay => Next::None(Served::Resting),
            Looked::Nothing => {
                self.close_with(Some(frames::STOPPING));
                Next::Owed
            }
            Looked::Over => {
                self.close_with(None);
                Next::Owed
            }
        }
    }

    /// Writes what is owed and a chunk of what is ready. False where the socket takes no more.
    fn write_ready(&mut self, frames: &Frames, ready: &Ready) -> io::Result<bool> {
        let Some(chunk) = ready.chunk.as_ref().filter(|_| self.owed.is_empty()) else {
            put_chunk_size(&mut self.owed, ready.frame_bytes);
            self.left = ready.frame_bytes;
            return self.write(frames, &ready.parts);
        };
        let written = attempt(|| self.socket.write(chunk))?;
        if written == chunk.len() {
            let last = ready.parts.last().expect("what is ready is never empty");
            (self.place, self.has_ended) = (last.then, last.slice.ends_run());
            self.has_written = true;
            return Ok(true);
        }
        // As if it had been written piece by piece.
        put_chunk_size(&mut self.owed, ready.frame_bytes);
        self.left = ready.frame_bytes;
        self.account(frames, &ready.parts, written);
        Ok(false)
    }

    /// Goes on with a chunk that was begun. None where it is through.
    fn go_on(&mut self, frames: &Frames, page: Option<&Arc<Batch>>) -> io::Result<Option<Served>> {
        let (mut then, mut skipped) = (self.place, self.skip);
        let (mut parts, mut bytes) = (Vec::new(), 0);
        while bytes < self.left {
            let slice = match frames.audience.look(&mut then) {
                Looked::Delivery(Delivery::Events(slice)) => slice,
                Looked::InStore(until) => match page.filter(|page| holds(page, then.cursor() + 1)) {
                    Some(page) => {
                        let Delivery::Events(slice) = then.take(page) else { return Err(lost()) };
                        slice
                    }
                    // What was read begins behind it: it was pruned.
                    None if page.is_some_and(|page| page.first_seq() > then.cursor() + 1) => {
                        return Err(lost());
                    }
                    None if parts.is_empty() => return Ok(Some(Served::Behind(until))),
                    None => break,
                },
                // What the chunk was to hold is gone: the task was deleted.
                Looked::Delivery(Delivery::Gap { .. }) | Looked::Nothing | Looked::Over => return Err(lost()),
            };
            let mut of_slice = frames.encoded(&slice, self.format);
            let end = of_slice.len().min(skipped + self.left - bytes);
            // A chunk ends with an event. Where it does not, other events stand there now.
            if end <= skipped || frames.split_at(&slice, self.format, end).1 > 0 {
                return Err(lost());
            }
            of_slice = of_slice.slice(skipped..end);
            bytes += of_slice.len();
            parts.push(Part { slice, bytes: of_slice, skipped, then });
            skipped = 0;
        }
        let is_written = self.write(frames, &parts)?;
        Ok((!is_written).then_some(Served::Blocked))
    }

    /// One write of what is owed, of frames of the chunk under way and, where they are its last, of its end. False where
    /// the socket takes no more.
    fn write(&mut self, frames: &Frames, parts: &[Part]) -> io::Result<bool> {
        let frame_bytes: usize = parts.iter().map(|part| part.bytes.len()).sum();
        let end = if frame_bytes > 0 && frame_bytes == self.left { CRLF } else { b"" };
        let mut pieces = Vec::with_capacity(parts.len() + 2);
        pieces.push(IoSlice::new(&self.owed));
        pieces.extend(parts.iter().map(|part| IoSlice::new(&part.bytes)));
        pieces.push(IoSlice::new(end));
        let all = self.owed.len() + frame_bytes + end.len();
        let written = attempt(|| self.socket.write_vectored(&pieces))?;
        self.account(frames, parts, written);
        Ok(written == all)
    }

    /// Notes how far such a write has come.
    fn account(&mut self, frames: &Frames, parts: &[Part], written: usize) {
        self.has_written |= written > 0;
        let of_owed = written.min(self.owed.len());
        self.owed.drain(..of_owed);
        let mut rest = written - of_owed;
        if !self.owed.is_empty() {
            return;
        }
        // Neither a viewer that waits nor one that does not read keeps a buffer.
        self.owed = Vec::new();
        for part in parts {
            let sent = rest.min(part.bytes.len());
            rest -= sent;
            self.left -= sent;
            let (whole, into_next) = frames.split_at(&part.slice, self.format, part.skipped + sent);
            match whole {
                Some(seq) if seq == part.slice.last_seq() => {
                    (self.place, self.has_ended) = (part.then, part.slice.ends_run());
                }
                Some(seq) => (self.place, self.has_ended) = (self.place.stopped_after(seq), false),
                None => {}
            }
            self.skip = into_next;
            if sent < part.bytes.len() {
                return;
            }
        }
        if self.left == 0 && !parts.is_empty() {
            self.owed.extend_from_slice(&CRLF[rest..]);
        }
    }

    fn owe(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut frame = Vec::new();
        write(&mut frame);
        put_chunk_size(&mut self.owed, frame.len());
        self.owed.extend_from_slice(&frame);
        self.owed.extend_from_slice(CRLF);
    }

    fn close_with(&mut self, why: Option<&str>) {
        if self.is_closing {
            return;
        }
        self.is_closing = true;
        if let Some(why) = why.filter(|_| !self.has_ended) {
            self.owe(|out| out.extend_from_slice(&frames::farewell(why)));
        }
        self.owed.extend_from_slice(LAST_CHUNK);
    }
}

/// What is to be done for a viewer next.
enum Next {
    /// Events are ready.
    Ready(Ready),
    /// What is owed is to be written.
    Owed,
    /// Nothing now.
    None(Served),
}

/// How many bytes went out; none where the socket takes no more.
fn attempt(mut write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match write() {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

fn holds(page: &Batch, seq: Seq) -> bool {
    page.first_seq() <= seq && seq <= page.last_seq()
}

/// A chunk cannot be ended as it was begun: the connection is cut, and the client comes back with its cursor.
fn lost() -> io::Error {
    io::Error::other("the events that were being sent are no longer there")
}

fn put_chunk_size(out: &mut Vec<u8>, bytes: usize) {
    write!(out, "{bytes:x}\r\n").expect("writing into memory does not fail");
}
