//! Frames, found in bytes as they come.
//!
//! Decides: which event a viewer has got, and whether it is the one that had to come next. Nothing is allocated for an
//! event, and of a line that a read has cut only the beginning is kept: all that is looked for stands there.

use std::time::Duration;

use memchr::memmem::Finder;

use super::Broken;
use crate::latency::Latencies;

/// How much is kept of a line: an id, a type that ends a run, or data up to their time of sending.
const KEPT_BYTES: usize = 72;

/// What stands before the time of sending in the data of `demo/BurstTask`.
const SENT: &[u8] = b"\"t_ns\":";

/// What was counted of all viewers.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) events: u64,
    /// From the sending of an event to the read that brought it; none where nobody asks for it.
    pub(super) latency: Option<Latencies>,
    sent: Finder<'static>,
    /// The wall clock after the read whose bytes are looked at.
    pub(super) now_ns: u64,
}

impl Tally {
    pub(super) fn new(latency: Option<Latencies>) -> Self {
        Self { events: 0, latency, sent: Finder::new(SENT), now_ns: 0 }
    }

    fn data(&mut self, line: &[u8]) {
        let Some(latency) = &mut self.latency else { return };
        let line = &line[..line.len().min(KEPT_BYTES)];
        let Some(at) = self.sent.find(line) else { return };
        if let Some((sent_ns, _)) = number(&line[at + SENT.len()..]) {
            // The two clocks are one; below nothing there is only its being set.
            latency.record(Duration::from_nanos(self.now_ns.saturating_sub(sent_ns)));
        }
    }
}

/// How far the events of one viewer are.
#[derive(Debug)]
pub(super) struct Frames {
    /// The seq that has to come next.
    next: u64,
    has_id: bool,
    is_terminal: bool,
    /// The terminal event has come.
    is_over: bool,
    kept: [u8; KEPT_BYTES],
    kept_len: usize,
}

impl Frames {
    pub(super) fn after(seq: u64) -> Self {
        Self {
            next: seq + 1,
            has_id: false,
            is_terminal: false,
            is_over: false,
            kept: [0; KEPT_BYTES],
            kept_len: 0,
        }
    }

    /// The seq of the newest event that has come.
    pub(super) fn last_seq(&self) -> u64 {
        self.next - 1
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether the bytes so far end with a whole frame.
    pub(super) fn is_whole(&self) -> bool {
        self.kept_len == 0 && !self.has_id
    }

    /// Takes bytes of the body.
    pub(super) fn take(&mut self, mut bytes: &[u8], tally: &mut Tally) -> Result<(), Broken> {
        if self.kept_len > 0 {
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.keep(bytes);
                return Ok(());
            };
            self.keep(&bytes[..end]);
            let (kept, len) = (self.kept, self.kept_len);
            self.kept_len = 0;
            self.line(&kept[..len], tally)?;
            bytes = &bytes[end + 1..];
        }
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.line(&bytes[..end], tally)?;
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(KEPT_BYTES - self.kept_len);
        self.kept[self.kept_len..self.kept_len + len].copy_from_slice(&bytes[..len]);
        self.kept_len += len;
    }

    fn line(&mut self, line: &[u8], tally: &mut Tally) -> Result<(), Broken> {
        if line.is_empty() {
            if self.has_id {
                tally.events += 1;
                self.has_id = false;
                self.is_over = self.is_terminal;
            }
        } else if line.starts_with(b"data: ") {
            tally.data(line);
        } else if let Some(id) = line.strip_prefix(b"id: ") {
            self.id(id)?;
        } else if let Some(word) = line.strip_prefix(b"event: ") {
            match word {
                b"complete" => self.is_terminal = true,
                b"error" | b"cancelled" | b"gap" => {
                    let word = String::from_utf8_lossy(word).into_owned();
                    return Err(Broken::Event { word, after: self.last_seq() });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn id(&mut self, text: &[u8]) -> Result<(), Broken> {
        // A relaxed store says `seq-token`.
        let seq = match number(text) {
            Some((seq, [] | [b'-', ..])) => seq,
            _ => return Err(Broken::Malformed("an id that is no number")),
        };
        if self.is_over {
            return Err(Broken::AfterTheEnd { seq });
        }
        if seq != self.next {
            return Err(match seq > self.next {
                true => Broken::Hole { from: self.next, to: seq },
                false => Broken::Double { seq, last_seq: self.last_seq() },
            });
        }
        self.next += 1;
        self.has_id = true;
        Ok(())
    }
}

/// The decimal number that a text begins with, and what follows it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = text[..digits]
        .iter()
        .try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    (digits > 0).then_some((number, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seq: u64, word: &str, sent_ns: u64) -> String {
        format!(
            "id: {seq}\nevent: {word}\ndata: {{\"i\":{seq},\"t_ns\":{sent_ns},\"pad\":\"{}\"}}\n\n",
            "x".repeat(99)
        )
    }

    #[test]
    fn events_and_their_latency_are_found_wherever_the_reads_cut_them() {
        let mut text = "retry: 2000\n\n".to_owned();
        for seq in 5..=7 {
            text += &frame(seq, "burst", 1_700_000_000_000_000_000 + seq * 1_000_000);
            text += ": heartbeat\n\n";
        }
        text += "id: 8-3\nevent: complete\ndata: {}\n\n";
        for step in 1..=text.len() {
            let mut tally = Tally::new(Some(Latencies::default()));
            tally.now_ns = 1_700_000_000_010_000_000;
            let mut frames = Frames::after(4);
            for bytes in text.as_bytes().chunks(step) {
                frames.take(bytes, &mut tally).unwrap();
            }
            assert!(frames.is_over() && frames.is_whole(), "{step} bytes at a time");
            assert_eq!((tally.events, frames.last_seq()), (4, 8));
            let latency = tally.latency.unwrap();
            assert_eq!(latency.count(), 3, "the end carries no time");
            let ms = |percentile| latency.percentile_ms(percentile).round();
            assert_eq!((ms(0.0), ms(50.0), ms(100.0)), (3.0, 4.0, 5.0));
        }
    }

    #[test]
    fn a_hole_a_double_and_another_end_are_told() {
        let broken = |text: &str| Frames::after(1).take(text.as_bytes(), &mut Tally::new(None)).unwrap_err();
        let two = frame(2, "burst", 1);
        assert_eq!(broken(&frame(3, "burst", 1)), Broken::Hole { from: 2, to: 3 });
        assert_eq!(broken(&(two.clone() + &two)), Broken::Double { seq: 2, last_seq: 2 });
        assert_eq!(broken("event: gap\ndata: {}\n\n"), Broken::Event { word: "gap".to_owned(), after: 1 });
        assert_eq!(broken(&(two + "event: error\n")), Broken::Event { word: "error".to_owned(), after: 2 });
        assert_eq!(broken("id: x\n"), Broken::Malformed("an id that is no number"));
        let end = frame(2, "complete", 1);
        assert_eq!(broken(&(end + &frame(3, "burst", 1))), Broken::AfterTheEnd { seq: 3 });
    }

    #[test]
    fn an_event_counts_once_it_is_whole() {
        let mut tally = Tally::new(None);
        let mut frames = Frames::after(0);
        let text = frame(1, "complete", 1);
        frames.take(&text.as_bytes()[..text.len() - 1], &mut tally).unwrap();
        assert!(!frames.is_over() && !frames.is_whole() && tally.events == 0);
        frames.take(b"\n", &mut tally).unwrap();
        assert!(frames.is_over() && frames.is_whole() && tally.events == 1);
    }
}
