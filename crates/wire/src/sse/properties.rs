//! Streams of whatever bytes, against a reader that was written from the standards alone ([`super::standard`]).
//!
//! Where ours deliberately differs, it says so here and nowhere else:
//! - it reports comments, and the `id` that stands in an event itself (a browser tells the last one, of whatever event);
//! - a `retry` without a digit, or beyond a 64-bit number, is no time; the standard's words let the first one pass;
//! - a frame beyond the reader's bound ends the stream.
//!
//! `PROPTEST_CASES` says how many are tried.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    Data, Decoder, Event, Format, Frame, Source, TooLarge, comment, retry,
    standard::{self, Said},
    tests::fields,
};
use crate::TaskId;

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// Text out of what matters to a stream, and any other character.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => prop::sample::select(vec![
            "\n", "\r", "\r\n", "\n\n", ":", " ", "  ", "\0", "\u{feff}", "\u{2028}", "\u{2029}", "\u{85}", "\u{b}",
            "data", "data: x", "event:", "id: 7", "retry: 5", "\"", "\\", "{", "}", "a", "\u{e9}", "\u{1f600}",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

/// A type as an event may have it.
fn event_type() -> impl Strategy<Value = String> {
    let allowed = |text: String| text.replace(['\r', '\n', '\0'], "");
    prop_oneof![
        3 => text().prop_map(allowed).prop_filter("a type is not empty", |text| !text.is_empty() && text.len() <= 128),
        1 => prop::sample::select(vec!["message", "gap", " message", "error", "data"]).prop_map(str::to_owned),
    ]
}

/// The bytes of a stream: what it is made of in an order of its own, whole and cut, and any other bytes.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&[u8]> = vec![
        b"\n",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b":",
        b": ",
        b" ",
        b"\0",
        b"data",
        b"data:",
        b"data: a",
        b"event:",
        b"event: e",
        b"id",
        b"id: ",
        b"id: 12",
        b"retry: ",
        b"retry:",
        b"0",
        b"25",
        b"99999999999999999999",
        b"\xEF\xBB\xBF",
        b"\xEF",
        b"\xBB",
        b"\xBF",
        b"\xE2\x80",
        b"\xE2\x80\xA8",
        b"\xF0\x9F\x98\x80",
        b"\xED\xA0\x80",
        b"\xC0\xAF",
        b"\xFF",
    ];
    let piece = prop_oneof![
        8 => prop::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    // A whole byte order mark at the beginning, and what only begins like one.
    let begins =
        prop::sample::select(vec![&b""[..], b"", b"\xEF\xBB\xBF", b"\xEF\xBB", b"\xEF", b"\xEF\xBB\xBF\xEF"]);
    (begins, prop::collection::vec(piece, 0..40)).prop_map(|(mark, pieces)| [mark, &pieces.concat()].concat())
}

/// Where the bytes are cut: lengths of chunks, again and again; an empty one is no end.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..9_usize, 0..6)
}

fn chunks<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let lengths: Vec<usize> =
        if cuts.iter().all(|cut| *cut == 0) { vec![bytes.len().max(1)] } else { cuts.to_vec() };
    let (mut rest, mut chunks) = (bytes, Vec::new());
    for length in lengths.into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at(length.min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

/// What our reader says of a stream, and where it would resume.
fn ours(chunks: &[&[u8]]) -> Result<(Vec<Frame>, Option<String>), TooLarge> {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk, &mut frames)?;
    }
    Ok((frames, decoder.last_event_id().map(str::to_owned)))
}

/// What the standard's reader says, in our words.
fn theirs(bytes: &[u8]) -> (Vec<Frame>, String) {
    let (said, last) = standard::read(bytes);
    let frames = said.into_iter().filter_map(|said| match said {
        Said::Event { own_id, event_type, data, .. } => {
            Some(Frame::Event(super::Message { id: own_id, event_type, data }))
        }
        Said::Retry(digits) => digits.parse().ok().map(Frame::Retry),
        Said::Comment(text) => Some(Frame::Comment(text)),
    });
    (frames.collect(), last)
}

/// What a reader gets of a text: line ends are LF.
fn joined(text: &str) -> String {
    let (mut out, mut chars) = (String::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        if c == '\r' && chars.peek() == Some(&'\n') {
            continue;
        }
        out.push(if c == '\r' { '\n' } else { c });
    }
    out
}

/// A value with names that the system uses as well.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let name = prop_oneof![
            prop::sample::select(vec![
                "_app",
                "_run",
                "_type",
                "_task_id",
                "_model",
                "_timestamp",
                "_system",
                "a"
            ])
            .prop_map(str::to_owned),
            text(),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..5)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Which letters are written as escapes, where they need not be.
#[derive(Debug, Clone, Copy)]
enum Escapes {
    /// What the system's names begin with, and no other letter: nothing but that tells that a name may be there.
    Underscores,
    /// Every so-manieth letter of a text, from one of the first.
    Every(usize, usize),
}

fn escapes() -> impl Strategy<Value = Escapes> {
    prop_oneof![Just(Escapes::Underscores), (1..6_usize, 0..6_usize).prop_map(|(n, k)| Escapes::Every(n, k))]
}

/// A JSON text of a value, with white space between its tokens and letters written as escapes.
fn written(value: &Value, space: &str, escapes: Escapes) -> String {
    let is_escaped = |i: usize, c: char| match escapes {
        Escapes::Underscores => c == '_',
        Escapes::Every(n, k) => i % n == k,
    };
    let string = |text: &str| {
        let letters = text.chars().enumerate().map(|(i, c)| {
            if !is_escaped(i, c) && !c.is_ascii_control() && !matches!(c, '"' | '\\') {
                return c.to_string();
            }
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        });
        format!("\"{}\"", letters.collect::<String>())
    };
    match value {
        Value::String(text) => string(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| written(item, space, escapes)).collect();
            format!("[{space}{}{space}]", items.join(&format!("{space},{space}")))
        }
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, field)| {
                    format!("{}{space}:{space}{}", string(name), written(field, space, escapes))
                })
                .collect();
            format!("{{{space}{}{space}}}", fields.join(&format!("{space},{space}")))
        }
        other => other.to_string(),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_read_as_the_standard_reads_them_wherever_they_are_cut(
        bytes in stream(), cuts in cuts(),
    ) {
        let (frames, last) = ours(&chunks(&bytes, &cuts)).unwrap();
        let (wanted, wanted_last) = theirs(&bytes);
        prop_assert_eq!(&frames, &wanted);
        prop_assert_eq!(last.unwrap_or_default(), wanted_last);
    }

    #[test]
    fn with_each_event_a_reader_is_where_the_standard_says_that_it_resumes(bytes in stream()) {
        let mut decoder = Decoder::new();
        let mut positions = Vec::new();
        for byte in &bytes {
            let mut frames = Vec::new();
            decoder.feed(&[*byte], &mut frames).unwrap();
            if matches!(frames[..], [Frame::Event(_)]) {
                positions.push(decoder.last_event_id().unwrap_or_default().to_owned());
            }
        }
        let (said, _) = standard::read(&bytes);
        let wanted: Vec<_> = said.into_iter().filter_map(|said| match said {
            Said::Event { last_event_id, .. } => Some(last_event_id),
            Said::Retry(_) | Said::Comment(_) => None,
        }).collect();
        prop_assert_eq!(positions, wanted);
    }

    #[test]
    fn raw_events_are_read_back_as_they_were_written_by_both_readers(
        events in prop::collection::vec((any::<u64>(), prop::option::of(any::<u64>()), event_type(), text()), 1..5),
        between in text(), pause in any::<u64>(), cuts in cuts(),
    ) {
        let source = Source::new("a", "B", &TaskId::Number(1));
        let (mut bytes, mut wanted, mut id) = (Vec::new(), Vec::new(), String::new());
        for (seq, token, event_type, text) in &events {
            let event =
                Event { seq: *seq, token: *token, run: 1, event_type, data: Data::Text(text), timestamp: &"t" };
            source.event(&mut bytes, Format::Raw, &event);
            comment(&mut bytes, &between);
            retry(&mut bytes, pause);
            id = token.map_or_else(|| seq.to_string(), |token| format!("{seq}-{token}"));
            wanted.extend([
                Frame::Event(super::Message {
                    id: Some(id.clone()),
                    event_type: event_type.clone(),
                    data: joined(text),
                }),
                Frame::Comment(between.replace(['\r', '\n'], " ")),
                Frame::Retry(pause),
            ]);
        }
        prop_assert_eq!(&theirs(&bytes), &(wanted.clone(), id.clone()));
        prop_assert_eq!(ours(&chunks(&bytes, &cuts)).unwrap(), (wanted, Some(id)));
    }

    #[test]
    fn the_standards_reader_finds_the_value_and_the_systems_fields_in_any_json(
        sent in value(), space in "[ \t\r\n]{0,2}", escapes in escapes(), event_type in event_type(),
        is_full in any::<bool>(), id in prop_oneof![any::<u64>().prop_map(TaskId::Number), text().prop_map(TaskId::Text)],
    ) {
        let format = if is_full { Format::Full } else { Format::Message };
        let json = format!("{space}{}{space}", written(&sent, &space, escapes));
        let mut bytes = Vec::new();
        let event =
            Event { seq: 3, token: None, run: 2, event_type: &event_type, data: Data::Json(&json), timestamp: &"t" };
        Source::new("a", "B", &id).event(&mut bytes, format, &event);

        let mut wanted = match sent {
            Value::Object(fields) => fields,
            other => [("value".to_owned(), other)].into_iter().collect(),
        };
        let task_id = match id {
            TaskId::Number(number) => json!(number),
            TaskId::Text(text) => json!(text),
        };
        for (name, value) in
            [("_task_id", task_id), ("_app", json!("a")), ("_model", json!("B")), ("_run", json!(2)), ("_timestamp", json!("t"))]
        {
            wanted.insert(name.to_owned(), value);
        }
        if !is_full {
            wanted.insert("_type".to_owned(), json!(event_type));
        }
        let (said, last) = standard::read(&bytes);
        let [Said::Event { event_type: read_type, data, .. }] = &said[..] else {
            return Err(TestCaseError::fail(format!("{said:?}")));
        };
        prop_assert_eq!(last, "3");
        prop_assert_eq!(read_type, if is_full { &event_type } else { "message" });
        prop_assert!(!data.contains(['\n', '\r']), "JSON stands on one line: {}", data);
        prop_assert_eq!(fields(data).len(), wanted.len(), "each name stands once: {}", data);
        prop_assert_eq!(serde_json::from_str::<Value>(data).unwrap(), Value::Object(wanted));
    }

    #[test]
    fn s8_a_bound_changes_nothing_of_what_fits_and_refuses_what_does_not(
        bytes in stream(), cuts in cuts(), bound in 0..60_usize,
    ) {
        let mut decoder = Decoder::bounded(bound);
        let mut frames = Vec::new();
        let fed = chunks(&bytes, &cuts).into_iter().try_for_each(|chunk| decoder.feed(chunk, &mut frames));
        let (wanted, _) = ours(&[&bytes]).unwrap();
        match fed {
            Ok(()) => prop_assert_eq!(frames, wanted),
            Err(TooLarge { max_bytes }) => {
                prop_assert_eq!(max_bytes, bound);
                // As text: what is no UTF-8 is kept as the three bytes of its replacement.
                let kept = String::from_utf8_lossy(&bytes).len();
                prop_assert!(kept > bound, "{} bytes are not beyond {}", kept, bound);
                prop_assert!(wanted.starts_with(&frames), "{:?} are not the first of {:?}", frames, wanted);
            }
        }
    }

    #[test]
    fn s8_whatever_is_kept_of_an_unfinished_frame_counts(
        (id, event_type, data) in ("[a-z]{0,30}", "[a-z]{0,30}", "[a-z]{0,30}"), bound in 40..60_usize,
    ) {
        let mut decoder = Decoder::bounded(bound);
        let mut frames = Vec::new();
        let frame = format!("id: {id}\nevent: {event_type}\ndata: {data}\n\n");
        let is_refused = decoder.feed(frame.as_bytes(), &mut frames).is_err();
        // Of a line its whole text is kept until it has ended.
        let kept = id.len() + event_type.len() + data.len();
        prop_assert!(is_refused || kept <= bound, "{kept} bytes were kept under a bound of {bound}");
        prop_assert!(!is_refused || kept + "event: ".len() > bound, "{kept} bytes were refused under a bound of {bound}");
    }
}
