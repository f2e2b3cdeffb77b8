//! Names, times and values, whatever is said: each is taken as it is or refused, and never anything between.
//!
//! What is valid is said here once more, in the words of the documents: by characters and lengths, without the checks of the
//! library. `PROPTEST_CASES` says how many are tried.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use proptest::prelude::*;
use serde_json::{Map, Value};
use soloist::{
    EventType, IdempotencyKey, Json, Key, ModelKey, NewTask, Policy, Timestamp, TraceContext,
    idempotency::{Call, Idempotency},
    limits, retry,
};

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// Any text: random characters, and what names are nearly made of.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,20}",
        any::<String>(),
        "[A-Za-z0-9_.~/%-]{0,20}",
        "[a-zA-Z_][A-Za-z0-9_.-]{0,70}",
        "([a-z]/){0,4}[a-z./]{0,3}",
    ]
}

fn is_name(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins
        && text.chars().count() <= 64
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn is_id(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    begins
        && text.chars().count() <= 128
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._~-".contains(c))
}

/// Names at and beyond their longest.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[A-Za-z_][A-Za-z0-9_.-]{0,8}", 1 => "[A-Za-z_][A-Za-z0-9_.-]{61,66}", 1 => text()]
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[A-Za-z0-9][A-Za-z0-9._~-]{0,8}", 1 => "[A-Za-z0-9][A-Za-z0-9._~-]{125,130}", 1 => text()]
}

/// A JSON text with its value as we understand it: names once, numbers as texts in brackets of their own.
#[derive(Debug, Clone)]
struct Written {
    value: Value,
}

const NUMBERS: [&str; 8] = ["0", "-0", "1", "1.0", "1e0", "9007199254740993", "9007199254740992", "1E+2"];

fn written() -> impl Strategy<Value = Written> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        // A number stands as the text that it is written with.
        prop::sample::select(NUMBERS.to_vec()).prop_map(|number| Value::from(format!("#{number}"))),
        "[a-z\"\\\\/\u{e9}\u{1f600}\u{1}]{0,4}".prop_map(|text| Value::from(format!("\"{text}"))),
    ];
    let value = leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-c\u{e9}\"]{0,2}", inner), 0..4)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    });
    value.prop_map(|value| Written { value })
}

/// How a text is written: white space, the order of names, escapes, and names that stand twice.
#[derive(Debug, Clone)]
struct Manner {
    space: String,
    backwards: bool,
    escaped: bool,
    doubled: bool,
}

fn manner() -> impl Strategy<Value = Manner> {
    ("[ \t\r\n]{0,2}", any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(space, backwards, escaped, doubled)| Manner { space, backwards, escaped, doubled })
}

fn write(value: &Value, manner: &Manner) -> String {
    let space = &manner.space;
    let string = |text: &str| {
        if manner.escaped {
            let units = text.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
            format!("\"{}\"", units.collect::<String>())
        } else {
            serde_json::to_string(text).unwrap()
        }
    };
    match value {
        Value::String(text) => match text.strip_prefix('#') {
            Some(number) => number.to_owned(),
            None => string(&text[1..]),
        },
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| write(item, manner)).collect();
            format!("[{space}{}{space}]", items.join(&format!("{space},{space}")))
        }
        Value::Object(fields) => {
            let mut all: Vec<_> = fields
                .iter()
                .map(|(name, field)| format!("{}{space}:{space}{}", string(name), write(field, manner)))
                .collect();
            if manner.backwards {
                all.reverse();
            }
            if manner.doubled
                && let Some(name) = fields.keys().next()
            {
                // The last one counts.
                all.insert(0, format!("{}:{space}[\"not this one\"]", string(name)));
            }
            format!("{{{space}{}{space}}}", all.join(&format!("{space},{space}")))
        }
        other => other.to_string(),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_key_is_taken_as_it_is_or_refused(app in name(), model in name(), id in id(), any in text()) {
        let key = Key::new(&app, &model, &id);
        prop_assert_eq!(key.is_ok(), is_name(&app) && is_name(&model) && is_id(&id));
        let written = format!("{app}/{model}/{id}");
        match (&key, written.parse::<Key>()) {
            (Ok(key), Ok(read)) => {
                prop_assert_eq!(key, &read);
                prop_assert_eq!(&read.to_string(), &written);
                prop_assert_eq!((read.app(), read.model(), read.id()), (&*app, &*model, &*id));
                prop_assert_eq!(read.model_key(), &ModelKey::new(&app, &model).unwrap());
                prop_assert!(written.bytes().all(|b| b.is_ascii_graphic()), "it can stand in a URL, a header and a log");
                let number = id.parse().ok().filter(|n: &u64| *n < 1 << 53 && n.to_string() == id);
                prop_assert_eq!(read.numeric_id(), number);
            }
            (Err(_), Err(error)) => prop_assert_eq!(error.code(), "invalid_key"),
            (key, read) => return Err(TestCaseError::fail(format!("{key:?} and {read:?}"))),
        }
        if let Ok(key) = any.parse::<Key>() {
            prop_assert_eq!(key.to_string(), any);
        } else {
            let parts: Vec<_> = any.split('/').collect();
            let is_key = matches!(parts[..], [app, model, id] if is_name(app) && is_name(model) && is_id(id));
            prop_assert!(!is_key, "{:?} was refused", any);
        }
    }

    #[test]
    fn keys_are_in_the_order_of_their_parts(
        first in ("[a-b.-]{1,2}", "[a-b.-]{1,2}", "[a-b0.~-]{1,3}"), second in ("[a-b.-]{1,2}", "[a-b.-]{1,2}", "[a-b0.~-]{1,3}"),
    ) {
        let key = |(app, model, id): &(String, String, String)| Key::new(app, model, id);
        if let (Ok(one), Ok(other)) = (key(&first), key(&second)) {
            prop_assert_eq!(one.cmp(&other), first.cmp(&second));
            prop_assert_eq!(one == other, one.to_string() == other.to_string());
        }
    }

    #[test]
    fn an_error_about_a_name_is_short_whatever_the_name(name in "\\PC{0,2000}") {
        for error in [name.parse::<Key>().err(), ModelKey::new(&name, "M").err(), Key::new("a", "M", &name).err()] {
            let said = error.map(|error| error.to_string()).unwrap_or_default();
            prop_assert!(said.len() < 1_500, "{} bytes", said.len());
        }
    }

    #[test]
    fn an_event_type_and_an_idempotency_key_are_taken_as_they_are_or_refused(
        text in prop_oneof![text(), "[a \r\n\u{0}\u{7f}\u{e9}~]{1,4}", "\\PC{120,130}", "[ -~]{250,260}"],
    ) {
        let bytes = text.len();
        let allowed = (1..=128).contains(&bytes) && !text.chars().any(|c| "\r\n\0".contains(c));
        let taken = EventType::new(&text);
        prop_assert_eq!(taken.is_ok(), allowed);
        prop_assert!(taken.is_err() || taken.unwrap().as_str() == text);
        let allowed = (1..=255).contains(&bytes) && text.chars().all(|c| (' '..='~').contains(&c));
        let key = IdempotencyKey::new(text.as_str());
        prop_assert_eq!(key.is_ok(), allowed);
        if let Ok(key) = key {
            let used = Idempotency::start(&key, Call::Start, Policy::Once);
            prop_assert_eq!(&used.key, &text);
            prop_assert!(text.len() < 20 || !format!("{key:?} {used:?}").contains(&text), "a key is not shown");
        }
    }

    #[test]
    fn a_request_is_the_same_exactly_where_it_means_the_same(
        one in written(), other in written(), first in manner(), second in manner(),
        ids in (1..3_u8, 1..3_u8), owners in (prop::option::of("[ab]{0,2}"), prop::option::of("[ab]{0,2}")),
        retries in (prop::option::of(0..3_u32), prop::option::of(0..3_u32)), thens in ("|start", "|start"),
    ) {
        let key = IdempotencyKey::new("k").unwrap();
        let used = |value: &Written, manner: &Manner, id: u8, owner: &Option<String>, retries: Option<u32>, then: &str| {
            let input = Json::parse(&write(&value.value, manner)).unwrap();
            let mut task = NewTask::named(Key::new("a", "B", &id.to_string()).unwrap(), input);
            (task.owner, task.max_retries) = (owner.clone(), retries);
            Idempotency::create(&key, &task, then)
        };
        let a = used(&one, &first, ids.0, &owners.0, retries.0, &thens.0);
        prop_assert_eq!(&a, &used(&one, &second, ids.0, &owners.0, retries.0, &thens.0), "however it is written");
        let b = used(&other, &second, ids.1, &owners.1, retries.1, &thens.1);
        // Nobody's task and one retry are what is meant where nobody says otherwise.
        let meant = |owner: &Option<String>, retries: Option<u32>| (owner.clone().unwrap_or_default(), retries.unwrap_or(0));
        let same = one.value == other.value
            && ids.0 == ids.1
            && meant(&owners.0, retries.0) == meant(&owners.1, retries.1)
            && thens.0 == thens.1;
        prop_assert_eq!(a == b, same);
    }

    #[test]
    fn json_is_the_same_value_exactly_where_it_says_the_same(
        one in written(), other in written(), manners in (manner(), manner(), manner()),
    ) {
        let json = |written: &Written, manner: &Manner| {
            let text = write(&written.value, manner);
            Json::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
        };
        let (a, b, c) = (json(&one, &manners.0), json(&one, &manners.1), json(&other, &manners.2));
        prop_assert!(a.same_value(&a) && a.same_value(&b) && b.same_value(&a), "{} and {}", a.as_str(), b.as_str());
        prop_assert_eq!(a.same_value(&c), one.value == other.value, "{} and {}", a.as_str(), c.as_str());
        prop_assert_eq!(c.same_value(&a), a.same_value(&c));
        prop_assert_eq!(b.same_value(&c), a.same_value(&c), "it goes on over what is the same");
        // What was sent is what is kept.
        let text = write(&one.value, &manners.0);
        let kept = Json::parse(&format!(" \r\n{text}\t")).unwrap();
        prop_assert_eq!(kept.as_str(), text.trim_matches([' ', '\t', '\r', '\n']));
    }

    #[test]
    fn any_text_is_json_or_refused(
        text in prop_oneof![any::<String>(), "[\\[\\]{}\",:0-9eE+.a-fu \\\\-]{0,24}", "\\PC{0,12}"],
    ) {
        // Another reader, of values; it rounds, and so refuses a number out of range as ours does.
        let theirs = serde_json::from_str::<Value>(&text).is_ok();
        let ours = Json::parse(&text);
        prop_assert_eq!(ours.is_ok(), theirs);
        if let Ok(json) = ours {
            prop_assert!(json.same_value(&json) && json.as_str() == text.trim_matches([' ', '\t', '\r', '\n']));
            prop_assert_eq!(json.is_object(), json.read::<BTreeMap<String, Value>>().is_ok());
        }
    }

    #[test]
    fn a_time_is_read_back_as_it_was_written(micros in any::<i64>(), near in -2_000_000..2_000_000_i64, text in text()) {
        for micros in [micros, near, i64::MAX - near.abs(), i64::MIN + near.abs()] {
            let time = Timestamp::from_micros(micros);
            let written = time.to_string();
            prop_assert_eq!(written.parse::<Timestamp>().unwrap(), time, "{}", written);
            prop_assert!(written.len() == 27 && written.ends_with('Z'), "{}", written);
            prop_assert_eq!(Timestamp::from_micros(time.as_micros()), time);
            // In the order of time, also as text.
            prop_assert_eq!(Timestamp::from_micros(near).to_string().cmp(&written), Timestamp::from_micros(near).cmp(&time));
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
    }

    #[test]
    fn a_time_that_somebody_else_wrote_can_be_written_again(
        year in -9_999..10_000_i32, month in 1..13_u8, day in 1..29_u8, second in 0..60_u8, offset in -25..26_i8,
    ) {
        let sign = if offset < 0 { '-' } else { '+' };
        let year = if year < 0 { format!("-{:06}", -year) } else { format!("{year:04}") };
        let text = format!("{year}-{month:02}-{day:02}T23:59:{second:02}{sign}{:02}:00", offset.abs());
        if let Ok(time) = text.parse::<Timestamp>() {
            let written = time.to_string();
            prop_assert_eq!(written.parse::<Timestamp>().unwrap(), time, "{} was read as {}", text, written);
            prop_assert_eq!(Timestamp::from_micros(time.as_micros()), time, "a store gives back what it was given: {}", text);
        }
    }

    #[test]
    fn a_trace_is_handed_on_as_it_came_or_not_at_all(
        parent in prop_oneof![
            "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
            "00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]",
            "[0f]{2}-[0]{32}-[0-9a-f]{16}-01",
            "0[01]-[0-9a-fA-F]{30,33}-[0-9a-f]{15,17}-[0-9a-g]{2}(-[a-z]{0,3})?",
            text(),
        ],
        state in prop::option::of(prop_oneof![text(), "[ -~]{510,514}"]),
    ) {
        // By the grammar of the specification.
        let parts: Vec<_> = parent.splitn(5, '-').collect();
        let hex = |text: &str, digits| text.len() == digits && text.chars().all(|c| "0123456789abcdef".contains(c));
        let valid = parts.len() >= 4
            && hex(parts[0], 2) && hex(parts[1], 32) && hex(parts[2], 16) && hex(parts[3], 2)
            && parts[0] != "ff" && (parts.len() == 4 || parts[0] != "00")
            && parts[1].contains(|c| c != '0') && parts[2].contains(|c| c != '0')
            && parent.len() <= limits::TRACE_PARENT_MAX_BYTES && parent.chars().all(|c| (' '..='~').contains(&c));
        let trace = TraceContext::new(&parent, state.as_deref());
        prop_assert_eq!(trace.is_some(), valid, "{:?}", parent);
        if let Some(trace) = trace {
            prop_assert_eq!(trace.traceparent(), parent);
            let kept = state.filter(|s| (1..=512).contains(&s.len()) && s.chars().all(|c| (' '..='~').contains(&c)));
            prop_assert_eq!(trace.tracestate(), kept.as_deref());
        }
    }

    #[test]
    fn a_retry_waits_within_its_bounds_and_never_panics(base_ms in any::<u64>(), small_ms in 0..400_000_u64, nth in any::<u32>(), few in 0..12_u32) {
        for (base, nth) in [(base_ms, nth), (base_ms, few), (small_ms, nth), (small_ms, few)] {
            let base = Duration::from_millis(base);
            let wait = retry::delay(base, nth);
            let mean = (base.as_secs_f64() * 2_f64.powi(i32::try_from(nth.saturating_sub(1).min(64)).unwrap()))
                .min(limits::RETRY_DELAY_MAX.as_secs_f64());
            prop_assert!(wait <= limits::RETRY_DELAY_MAX);
            let (least, most) = (mean * 0.8 - 1e-6, mean * 1.2 + 1e-6);
            prop_assert!((least..=most).contains(&wait.as_secs_f64()), "{:?} is not about {} s", wait, mean);
        }
    }
}

#[test]
fn any_two_of_the_numbers_differ() {
    let texts: HashSet<_> = NUMBERS.iter().collect();
    assert_eq!(texts.len(), NUMBERS.len());
    for (i, one) in NUMBERS.iter().enumerate() {
        for (j, other) in NUMBERS.iter().enumerate() {
            let same = Json::parse(one).unwrap().same_value(&Json::parse(other).unwrap());
            assert_eq!(same, i == j, "{one} and {other}: numbers are the same by their text");
        }
    }
}
