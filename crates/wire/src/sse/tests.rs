//! What is written is read back, whatever the data and wherever the bytes are cut.

use serde_json::Value;

use super::{Data, Decoder, Event, Format, Frame, Message, Source, TooLarge, comment, retry};
use crate::TaskId;

/// A seeded generator (splitmix64): the same numbers for the same seed, on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn text(&mut self) -> String {
        let parts = [
            "a", " ", ":", "\n", "\r", "\r\n", "\0", "\u{feff}", "é", "😀", "data: x", "\"", "\\", "_app",
            "id",
        ];
        (0..self.below(8)).map(|_| self.pick(&parts)).collect()
    }

    /// A JSON text with odd white space, names of the system, escapes and doubled names.
    fn json(&mut self, depth: usize) -> String {
        let space = self.pick(&["", " ", "\n", "\r\n\t"]);
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => "null".into(),
            1 => self.pick(&["0", "-1.50", "12345678901234567890123", "1e400"]).into(),
            2 => self.pick(&["true", "false"]).into(),
            3 | 4 => serde_json::to_string(&self.text()).unwrap(),
            5 => {
                let items: Vec<_> = (0..self.below(3)).map(|_| self.json(depth - 1)).collect();
                format!("[{space}{}{space}]", items.join(&format!("{space},")))
            }
            _ => {
                let names = [
                    "a",
                    "_app",
                    "_run",
                    "_type",
                    "_system",
                    "\\u005fapp",
                    "_\\u0061pp",
                    "_timestamp",
                    "_x",
                    "\\n",
                    "_task_id",
                ];
                let fields: Vec<_> = (0..self.below(5))
                    .map(|_| format!("\"{}\"{space}:{space}{}", self.pick(&names), self.json(depth - 1)))
                    .collect();
                format!("{{{space}{}{space}}}", fields.join(&format!("{space},")))
            }
        }
    }

    fn event_type(&mut self) -> &'static str {
        self.pick(&[
            "message",
            "start",
            " leading",
            "two words",
            "data",
            ":",
            "é",
            "complete",
            "\u{feff}x",
            "a:b ",
        ])
    }
}

fn read(bytes: &[u8], random: &mut Random) -> (Vec<Frame>, Option<String>) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(random.below(rest.len().min(12)) + 1);
        decoder.feed(chunk, &mut frames).unwrap();
        rest = after;
    }
    (frames, decoder.last_event_id().map(str::to_owned))
}

fn message(id: u64, event_type: &str, data: &str) -> Frame {
    Frame::Event(Message { id: Some(id.to_string()), event_type: event_type.into(), data: data.into() })
}

/// What a reader gets of a text: line ends are LF.
fn joined(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

#[test]
fn raw_text_and_json_come_back_as_they_were_sent_wherever_the_bytes_are_cut() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let source = Source::new("a", "B", &TaskId::Number(1));
        let (mut bytes, mut wanted) = (Vec::new(), Vec::new());
        for seq in 1..=4 {
            let (text, event_type) = (random.text(), random.event_type());
            let json = random.json(2);
            let data = if random.below(2) == 0 { Data::Text(&text) } else { Data::Json(&json) };
            let event = Event { seq, token: None, run: 1, event_type, data, timestamp: &"t" };
            source.event(&mut bytes, Format::Raw, &event);
            let (Data::Text(sent) | Data::Json(sent)) = data;
            wanted.push(message(seq, event_type, &joined(sent)));
        }
        assert_eq!(read(&bytes, &mut random), (wanted, Some("4".into())), "seed {seed}");
    }
}

#[test]
fn full_and_message_data_are_one_object_in_which_the_systems_fields_win_and_stand_once() {
    for seed in 0..2_000 {
        let mut random = Random(seed);
        let format = if random.below(2) == 0 { Format::Full } else { Format::Message };
        let id = if random.below(2) == 0 { TaskId::Number(7) } else { TaskId::Text("x~7".into()) };
        let (text, json, event_type) = (random.text(), random.json(3), random.event_type());
        let data = if random.below(4) == 0 { Data::Text(&text) } else { Data::Json(&json) };
        let mut bytes = Vec::new();
        let event = Event {
            seq: 9,
            token: None,
            run: 3,
            event_type,
            data,
            timestamp: &"2026-11-23T12:00:00.000000Z",
        };
        Source::new("a", "B", &id).event(&mut bytes, format, &event);

        let (frames, last) = read(&bytes, &mut random);
        assert_eq!(last.as_deref(), Some("9"));
        let [Frame::Event(read)] = &frames[..] else { panic!("seed {seed}: {frames:?}") };
        assert!(!read.data.contains('\n'), "seed {seed}: JSON stands on one line");
        let typed = if format == Format::Full { event_type } else { "message" };
        assert_eq!(read.event_type, typed, "seed {seed}");

        let mut wanted = match data {
            Data::Text(text) => fields(&serde_json::json!({ "value": text }).to_string()),
            Data::Json(json) if json.starts_with('{') => fields(json),
            Data::Json(json) => vec![("value".into(), compact(json))],
        };
        let mut system = vec![
            ("_task_id", if id == TaskId::Number(7) { "7" } else { "\"x~7\"" }.to_owned()),
            ("_app", "\"a\"".into()),
            ("_model", "\"B\"".into()),
            ("_run", "3".into()),
            ("_timestamp", "\"2026-11-23T12:00:00.000000Z\"".into()),
        ];
        if format == Format::Message {
            system.push(("_type", serde_json::to_string(event_type).unwrap()));
        }
        wanted.retain(|(name, _)| !system.iter().any(|(own, _)| own == name));
        wanted.extend(system.into_iter().map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(fields(&read.data), wanted, "seed {seed}: {data:?}");
    }
}

/// The fields of an object in order, doubled ones too, values without white space between tokens.
pub(super) fn fields(json: &str) -> Vec<(String, String)> {
    struct Fields(Vec<(String, String)>);
    impl<'de> serde::Deserialize<'de> for Fields {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct V;
            impl<'de> serde::de::Visitor<'de> for V {
                type Value = Fields;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                    let mut fields = Vec::new();
                    while let Some((name, value)) = map.next_entry::<String, crate::RawJson>()? {
                        fields.push((name, compact(value.get())));
                    }
                    Ok(Fields(fields))
                }
            }
            deserializer.deserialize_map(V)
        }
    }
    serde_json::from_str::<Fields>(json).unwrap_or_else(|e| panic!("{e}: {json}")).0
}

fn compact(json: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::new(), false, false);
    for c in json.chars() {
        if quoted || !matches!(c, ' ' | '\t' | '\r' | '\n') {
            out.push(c);
        }
        match c {
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
    }
    out
}

#[test]
fn an_empty_object_takes_the_systems_fields_without_a_stray_comma() {
    for json in ["{}", "{ }", " {\r\n} ", r#"{"_app":1}"#] {
        let mut bytes = Vec::new();
        let event =
            Event { seq: 1, token: None, run: 1, event_type: "e", data: Data::Json(json), timestamp: &"t" };
        Source::new("a", "B", &TaskId::Number(1)).event(&mut bytes, Format::Full, &event);
        let text = String::from_utf8(bytes).unwrap();
        let data = text.strip_prefix("id: 1\nevent: e\ndata: ").unwrap();
        assert_eq!(
            data,
            "{\"_task_id\":1,\"_app\":\"a\",\"_model\":\"B\",\"_run\":1,\"_timestamp\":\"t\"}\n\n"
        );
    }
}

#[test]
fn a_gap_has_no_id_and_leaves_the_position_of_its_reader_as_it_was() {
    for (format, event_type) in [(Format::Full, "gap"), (Format::Raw, "gap"), (Format::Message, "message")] {
        let source = Source::new("a", "B", &TaskId::Number(1));
        let mut bytes = Vec::new();
        source.event(
            &mut bytes,
            Format::Raw,
            &Event { seq: 3, token: None, run: 1, event_type: "x", data: Data::Text(""), timestamp: &"" },
        );
        source.gap(&mut bytes, format, "pruned", 12);
        let (frames, last) = read(&bytes, &mut Random(1));
        assert_eq!(last.as_deref(), Some("3"));
        assert_eq!(frames[0], message(3, "x", ""));
        let Frame::Event(gap) = &frames[1] else { panic!("{frames:?}") };
        assert_eq!((gap.id.as_deref(), &*gap.event_type), (None, event_type));
        let data: Value = serde_json::from_str(&gap.data).unwrap();
        assert_eq!((&data["reason"], &data["first_seq"]), (&"pruned".into(), &12.into()));
        assert_eq!(data["_type"].as_str(), (format == Format::Message).then_some("gap"));
    }
}

#[test]
fn a_stream_is_read_by_the_rules_of_the_standard() {
    let cases: [(&[u8], &[Frame]); 9] = [
        (b"\xEF\xBB\xBFdata: a\n\n", &[plain("a")]),
        (b"\xEF\xBBdata: a\n\n", &[]),
        (b"data: a\r\rdata:b\r\ndata\r\n\r\n", &[plain("a"), plain("b\n")]),
        (b": x\n:y\n\n", &[Frame::Comment("x".into()), Frame::Comment("y".into())]),
        (b"retry: 10\nretry: 1x\nretry:\nretry: -1\n\n", &[Frame::Retry(10)]),
        (b"event: only\n\ndata: a\n\n", &[plain("a")]),
        (b"data: cut off\n", &[]),
        (b"unknown: x\nDATA: y\n data: z\n\n", &[]),
        (b"data:  two\n\n", &[plain(" two")]),
    ];
    for (bytes, wanted) in cases {
        for seed in 0..20 {
            assert_eq!(read(bytes, &mut Random(seed)).0, wanted, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}

fn plain(data: &str) -> Frame {
    Frame::Event(Message { id: None, event_type: "message".into(), data: data.into() })
}

#[test]
fn an_id_counts_once_its_frame_is_complete_and_never_with_a_nul() {
    let position = |bytes: &[u8]| read(bytes, &mut Random(3)).1;
    assert_eq!(position(b"id: 1\n\nid: 2\ndata: x\n"), Some("1".into()));
    assert_eq!(position(b"id: 1\n\nid: 2\0\ndata: x\n\n"), Some("1".into()));
    assert_eq!(position(b"id: 1\n\nid\n\n"), Some(String::new()));
    assert_eq!(position(b"data: x\n\n"), None);
}

#[test]
fn s8_a_frame_without_end_is_refused_at_the_bound() {
    for piece in [&b"data: aaaaaaaaaa"[..], b"data: aaaa\n", b"event: aaaaaa"] {
        let mut decoder = Decoder::bounded(100);
        let mut frames = Vec::new();
        let fed = (0..1_000).take_while(|_| decoder.feed(piece, &mut frames).is_ok()).count();
        assert!(fed < 25, "{fed} pieces of {piece:?}");
        assert_eq!(decoder.feed(piece, &mut frames), Err(TooLarge { max_bytes: 100 }));
    }
    let mut frames = Vec::new();
    let mut decoder = Decoder::bounded(100);
    for _ in 0..1_000 {
        decoder.feed(b"data: aaaa\n\n", &mut frames).unwrap();
    }
    assert_eq!(frames.len(), 1_000);
}

#[test]
fn a_comment_and_a_retry_are_read_back() {
    let mut bytes = Vec::new();
    retry(&mut bytes, 2_000);
    comment(&mut bytes, "two\r\nlines");
    assert_eq!(bytes, b"retry: 2000\n\n: two  lines\n\n");
    assert_eq!(read(&bytes, &mut Random(5)).0, [Frame::Retry(2_000), Frame::Comment("two  lines".into())]);
}
