//! A second reader of event streams, for tests: the HTML standard's "Interpreting an event stream", word by word.
//!
//! Decides nothing of the product, and shares no code with it: simple, slow, and over a whole stream at once. UTF-8 is
//! decoded as the Encoding standard has it, and lines are cut as the grammar of the stream says. It tells more than a
//! browser would, so that our reader can be held to all of what it tells: comments, and the `id` that an event itself has.

/// What a stream says, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// An event that was dispatched.
    Event {
        /// The `id` that stands in it, the last one.
        own_id: Option<String>,
        /// The `lastEventId` that a page is told with it.
        last_event_id: String,
        /// Its type.
        event_type: String,
        /// Its data.
        data: String,
    },
    /// A reconnection time, its digits as they stand there.
    Retry(String),
    /// A comment.
    Comment(String),
}

/// All that a stream says, and the last event id string at its end.
pub(super) fn read(stream: &[u8]) -> (Vec<Said>, String) {
    let mut said = Vec::new();
    let mut last_event_id = String::new();
    let (mut data, mut event_type, mut last_event_id_buffer) = (String::new(), String::new(), String::new());
    let mut own_id = None;
    for line in lines(&utf_8_decode(stream)) {
        // If the line is empty (a blank line): dispatch the event.
        if line.is_empty() {
            last_event_id.clone_from(&last_event_id_buffer);
            let own_id = own_id.take();
            let mut event_type = std::mem::take(&mut event_type);
            let mut data = std::mem::take(&mut data);
            if data.is_empty() {
                continue;
            }
            if data.ends_with('\n') {
                data.truncate(data.len() - 1);
            }
            if event_type.is_empty() {
                event_type = "message".to_owned();
            }
            said.push(Said::Event { own_id, last_event_id: last_event_id.clone(), event_type, data });
            continue;
        }
        let (field, value): (Vec<char>, Vec<char>) = match line.iter().position(|c| *c == ':') {
            Some(at) => {
                let value = &line[at + 1..];
                let value = if value.first() == Some(&' ') { &value[1..] } else { value };
                (line[..at].to_vec(), value.to_vec())
            }
            None => (line, Vec::new()),
        };
        let (field, value) = (field.into_iter().collect::<String>(), value.into_iter().collect::<String>());
        if field.is_empty() {
            // The standard ignores the line; what it says is kept here as ours keeps it.
            said.push(Said::Comment(value));
        } else if field == "event" {
            event_type = value;
        } else if field == "data" {
            data = data + &value + "\n";
        } else if field == "id" {
            if !value.contains('\u{0}') {
                last_event_id_buffer.clone_from(&value);
                own_id = Some(value);
            }
        } else if field == "retry" && value.chars().all(|c| c.is_ascii_digit()) {
            said.push(Said::Retry(value));
        }
    }
    (said, last_event_id)
}

/// The lines of a stream that have an end: CRLF, or a LF, or a CR alone. One byte order mark before the first is no part.
fn lines(text: &[char]) -> Vec<Vec<char>> {
    let mut text = text;
    if text.first() == Some(&'\u{FEFF}') {
        text = &text[1..];
    }
    let (mut lines, mut line, mut at) = (Vec::new(), Vec::new(), 0);
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('\r', Some('\n')) => {
                lines.push(std::mem::take(&mut line));
                at += 2;
            }
            ('\r' | '\n', _) => {
                lines.push(std::mem::take(&mut line));
                at += 1;
            }
            (other, _) => {
                line.push(other);
                at += 1;
            }
        }
    }
    lines
}

/// The UTF-8 decoder of the Encoding standard, errors replaced.
fn utf_8_decode(bytes: &[u8]) -> Vec<char> {
    let mut out = Vec::new();
    let (mut code_point, mut seen, mut needed) = (0_u32, 0, 0);
    let (mut lower, mut upper) = (0x80, 0xBF);
    let mut at = 0;
    loop {
        let Some(&byte) = bytes.get(at) else {
            if needed != 0 {
                out.push('\u{FFFD}');
            }
            return out;
        };
        at += 1;
        if needed == 0 {
            match byte {
                0x00..=0x7F => out.push(char::from(byte)),
                0xC2..=0xDF => (needed, code_point) = (1, u32::from(byte & 0x1F)),
                0xE0..=0xEF => {
                    if byte == 0xE0 {
                        lower = 0xA0;
                    }
                    if byte == 0xED {
                        upper = 0x9F;
                    }
                    (needed, code_point) = (2, u32::from(byte & 0xF));
                }
                0xF0..=0xF4 => {
                    if byte == 0xF0 {
                        lower = 0x90;
                    }
                    if byte == 0xF4 {
                        upper = 0x8F;
                    }
                    (needed, code_point) = (3, u32::from(byte & 0x7));
                }
                _ => out.push('\u{FFFD}'),
            }
            continue;
        }
        if !(lower..=upper).contains(&byte) {
            (code_point, needed, seen, lower, upper) = (0, 0, 0, 0x80, 0xBF);
            // The byte is looked at again.
            at -= 1;
            out.push('\u{FFFD}');
            continue;
        }
        (lower, upper) = (0x80, 0xBF);
        code_point = (code_point << 6) | u32::from(byte & 0x3F);
        seen += 1;
        if seen == needed {
            out.push(char::from_u32(code_point).expect("the bounds leave out what is no character"));
            (code_point, needed, seen) = (0, 0, 0);
        }
    }
}

#[test]
fn the_examples_of_the_standard_are_read_as_it_says() {
    let event = |own_id: Option<&str>, last: &str, data: &str| Said::Event {
        own_id: own_id.map(str::to_owned),
        last_event_id: last.to_owned(),
        event_type: "message".to_owned(),
        data: data.to_owned(),
    };
    // A stock price over three lines.
    let (said, _) = read(b"data: YHOO\ndata: +2\ndata: 10\n\n");
    assert_eq!(said, [event(None, "", "YHOO\n+2\n10")]);
    // Four blocks: a comment, two events with ids (the second resets it), and one that begins with a space.
    let (said, last) =
        read(b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n");
    let wanted = [
        Said::Comment("test stream".to_owned()),
        event(Some("1"), "1", "first event"),
        event(Some(""), "", "second event"),
        event(None, "", " third event"),
    ];
    assert_eq!((said.as_slice(), last.as_str()), (wanted.as_slice(), ""));
    // Two events, of an empty text and of a line end; a third that is not complete.
    let (said, _) = read(b"data\n\ndata\ndata\n\ndata:");
    assert_eq!(said, [event(None, "", ""), event(None, "", "\n")]);
    // The space after the colon is of no account.
    let (said, _) = read(b"data:test\n\ndata: test\n\n");
    assert_eq!(said, [event(None, "", "test"), event(None, "", "test")]);
}

#[test]
fn malformed_utf_8_is_replaced_as_the_encoding_standard_says() {
    let decoded = |bytes: &[u8]| utf_8_decode(bytes).into_iter().collect::<String>();
    assert_eq!(decoded(b"\xF0\x80\x80a\xE2\x82"), "\u{FFFD}\u{FFFD}\u{FFFD}a\u{FFFD}");
    assert_eq!(decoded(b"\xED\xA0\x80\xF4\x90\xC0\xAF"), "\u{FFFD}".repeat(7));
    assert_eq!(decoded("a\u{e9}\u{20ac}\u{1f600}".as_bytes()), "a\u{e9}\u{20ac}\u{1f600}");
}
