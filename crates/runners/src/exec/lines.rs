//! Lines: how the bytes that a command writes are cut into pieces.
//!
//! Decides: where a line ends (LF, CR or CRLF) and how much of one is kept. What is over the bound is discarded as it
//! is read: a line of any length takes the memory of the longest one that is allowed. Never decides what a line means.

use soloist::limits;

/// Cuts a stream of chunks into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Line,
    /// Whether anything of the line has come, also where it is empty so far.
    begun: bool,
    /// The last line ended at a CR: an LF that follows belongs to it.
    after_cr: bool,
}

/// A line without its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// What is kept of it: up to [`limits::EXEC_JSON_LINE_MAX_BYTES`] where it begins with `{`, else up to
    /// [`limits::EXEC_LINE_MAX_BYTES`].
    pub(super) bytes: Vec<u8>,
    /// Whether it was longer.
    pub(super) truncated: bool,
}

impl Lines {
    /// Takes from `chunk` up to the end of a line. None once the chunk is used up.
    pub(super) fn next(&mut self, chunk: &mut &[u8]) -> Option<Line> {
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            *chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        match memchr::memchr2(b'\n', b'\r', chunk) {
            Some(end) => {
                self.line.push(&chunk[..end]);
                self.after_cr = chunk[end] == b'\r';
                *chunk = &chunk[end + 1..];
                self.begun = false;
                Some(std::mem::take(&mut self.line))
            }
            None => {
                self.begun |= !chunk.is_empty();
                self.line.push(chunk);
                *chunk = &[];
                None
            }
        }
    }

    /// The last line, where it has no end.
    pub(super) fn last(self) -> Option<Line> {
        self.begun.then_some(self.line)
    }
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        let first = self.bytes.first().or(bytes.first());
        let max = match first {
            Some(b'{') => limits::EXEC_JSON_LINE_MAX_BYTES,
            _ => limits::EXEC_LINE_MAX_BYTES,
        };
        let room = max - self.bytes.len();
        self.truncated |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(input: &[u8], chunk_bytes: usize) -> Vec<String> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for mut chunk in input.chunks(chunk_bytes) {
            while let Some(line) = lines.next(&mut chunk) {
                found.push(String::from_utf8(line.bytes).unwrap());
            }
        }
        found.extend(lines.last().map(|line| String::from_utf8(line.bytes).unwrap()));
        found
    }

    #[test]
    fn lines_end_at_lf_cr_and_crlf_wherever_the_chunks_are_cut() {
        let input = b"a\nb\r\nc\rd\n\ne\r\n\r\nf\r\rg\n\rlast";
        let expected = ["a", "b", "c", "d", "", "e", "", "f", "", "g", "", "last"];
        for chunk_bytes in 1..=input.len() {
            assert_eq!(split(input, chunk_bytes), expected, "chunks of {chunk_bytes}");
        }
        assert_eq!(split(b"a\n", 2), ["a"]);
        assert!(split(b"", 1).is_empty());
    }

    #[test]
    fn s8_a_line_over_its_bound_is_cut_and_its_rest_is_discarded() {
        for (first, max) in [(b'x', limits::EXEC_LINE_MAX_BYTES), (b'{', limits::EXEC_JSON_LINE_MAX_BYTES)] {
            let mut lines = Lines::default();
            let filler = [first; 1000];
            for _ in 0..10_000 {
                assert_eq!(lines.next(&mut &filler[..]), None);
                assert!(lines.line.bytes.capacity() <= 2 * max);
            }
            let line = lines.next(&mut &b"\n"[..]).unwrap();
            assert_eq!((line.bytes.len(), line.truncated), (max, true));
            let mut chunk = &b"next\n"[..];
            assert_eq!(lines.next(&mut chunk).unwrap(), Line { bytes: b"next".to_vec(), truncated: false });
        }
        let mut exact = vec![b'x'; limits::EXEC_LINE_MAX_BYTES];
        exact.push(b'\n');
        assert!(!Lines::default().next(&mut &exact[..]).unwrap().truncated);
    }
}
