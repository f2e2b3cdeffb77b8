//! The body of an answer, found in bytes as they come.
//!
//! Decides: where the head ends, what of the rest is body, and whether the body came to its end. It knows both ways
//! in which a stream without a length is sent: in chunks, and up to the end of the connection.

use super::Broken;

/// A head that is longer than this is none of a server that is measured.
const HEAD_MAX_BYTES: usize = 16 << 10;

/// How far an answer is.
#[derive(Debug)]
pub(super) enum Body {
    /// The head so far.
    Head(Vec<u8>),
    Chunked(Chunk),
    /// The body ends with the connection.
    UntilClosed,
    /// The last chunk has come.
    Ended,
}

/// How far a chunk is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chunk {
    /// Within the line that says how long the next one is: the size so far, and whether its digits are over.
    Size { size: u64, past_digits: bool },
    /// So many bytes of its data are left.
    Data(u64),
    /// Before the line end that follows its data.
    Close,
    /// Within a line after the last chunk; the empty one is the last.
    Trailer { is_empty: bool },
}

const SIZE: Chunk = Chunk::Size { size: 0, past_digits: false };

impl Body {
    pub(super) fn new() -> Self {
        Self::Head(Vec::new())
    }

    /// Takes bytes as they were read, and gives on what is body.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        match self {
            Self::Head(head) => {
                let before = head.len();
                head.extend_from_slice(bytes);
                let Some(end) = memchr::memmem::find(head, b"\r\n\r\n") else {
                    let is_bounded = head.len() <= HEAD_MAX_BYTES;
                    return if is_bounded { Ok(()) } else { Err(Broken::Malformed("a head without an end")) };
                };
                // What was there before had no end, so the end lies in the new bytes.
                let rest = &bytes[end + 4 - before..];
                *self = Self::after_head(&head[..end])?;
                self.take(rest, each)
            }
            Self::Chunked(chunk) => {
                if chunk.take(bytes, each)? {
                    *self = Self::Ended;
                }
                Ok(())
            }
            Self::UntilClosed => each(bytes),
            Self::Ended if bytes.is_empty() => Ok(()),
            Self::Ended => Err(Broken::Malformed("bytes after the last chunk")),
        }
    }

    /// Whether a connection that is closed now was closed where it may be.
    pub(super) fn may_close(&self) -> bool {
        matches!(self, Self::UntilClosed | Self::Ended)
    }

    fn after_head(head: &[u8]) -> Result<Self, Broken> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.lines();
        let status = lines.next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            return Err(Broken::Refused(status.to_owned()));
        }
        let mut body = Self::UntilClosed;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                return Err(Broken::Malformed("an answer with a length, which is no stream"));
            }
            if name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked")
            {
                body = Self::Chunked(SIZE);
            }
        }
        Ok(body)
    }
}

impl Chunk {
    /// Whether the last chunk has come to its end.
    fn take(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), Broken>,
    ) -> Result<bool, Broken> {
        while let Some(&byte) = bytes.first() {
            match *self {
                Self::Data(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    each(&bytes[..here])?;
                    bytes = &bytes[here..];
                    *self = match left - here as u64 {
                        0 => Self::Close,
                        left => Self::Data(left),
                    };
                    continue;
                }
                Self::Size { size, past_digits } => {
                    *self = match (byte, (byte as char).to_digit(16)) {
                        (b'\n', _) if size == 0 => Self::Trailer { is_empty: true },
                        (b'\n', _) => Self::Data(size),
                        (_, Some(digit)) if !past_digits => {
                            let size =
                                size.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit)));
                            let size = size.ok_or(Broken::Malformed("a chunk without bounds"))?;
                            Self::Size { size, past_digits: false }
                        }
                        (b'\r' | b';' | b' ', _) | (_, Some(_)) => Self::Size { size, past_digits: true },
                        _ if past_digits => Self::Size { size, past_digits },
                        _ => return Err(Broken::Malformed("a chunk without a size")),
                    };
                }
                Self::Close => match byte {
                    b'\r' => {}
                    b'\n' => *self = SIZE,
                    _ => return Err(Broken::Malformed("a chunk that is longer than it said")),
                },
                Self::Trailer { is_empty } => match byte {
                    b'\n' if is_empty => {
                        let is_last = bytes.len() == 1;
                        return if is_last {
                            Ok(true)
                        } else {
                            Err(Broken::Malformed("bytes after the last chunk"))
                        };
                    }
                    b'\n' => *self = Self::Trailer { is_empty: true },
                    b'\r' => {}
                    _ => *self = Self::Trailer { is_empty: false },
                },
            }
            bytes = &bytes[1..];
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn read(answer: &str, step: usize) -> (String, Body) {
        let (mut body, mut text) = (Body::new(), Vec::new());
        for bytes in answer.as_bytes().chunks(step) {
            body.take(bytes, |bytes| {
                text.extend_from_slice(bytes);
                Ok(())
            })
            .unwrap();
        }
        (String::from_utf8(text).unwrap(), body)
    }

    #[test]
    fn chunks_are_read_wherever_the_reads_cut_them() {
        let answer =
            format!("{HEAD}5\r\nhello\r\n1A; a=b\r\n, this is sixteen and ten \r\n0\r\nx: y\r\n\r\n");
        for step in 1..=answer.len() {
            let (text, body) = read(&answer, step);
            assert_eq!(text, "hello, this is sixteen and ten ", "{step} bytes at a time");
            assert!(matches!(body, Body::Ended) && body.may_close());
        }
        let (text, body) = read(&answer[..HEAD.len() + 6], 7);
        assert_eq!(text, "hel");
        assert!(!body.may_close());
    }

    #[test]
    fn without_chunks_the_body_ends_with_the_connection() {
        let (text, body) = read("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello\r\n\r\n0\r\n\r\n", 3);
        assert_eq!(text, "hello\r\n\r\n0\r\n\r\n");
        assert!(body.may_close());
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        for (answer, why) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", "204"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd", "length"),
            (&format!("{HEAD}x\r\n"), "size"),
            (&format!("{HEAD}1\r\nab"), "longer"),
            (&format!("{HEAD}0\r\n\r\nx"), "after the last"),
        ] {
            let broken = Body::new().take(answer.as_bytes(), |_| Ok(())).unwrap_err();
            assert!(broken.to_string().contains(why), "{answer:?}: {broken}");
        }
    }
}
