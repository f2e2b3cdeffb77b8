//! Data as a JSON object that is still open, for the system's fields to follow.
//!
//! Decides: what of the data stays. Nothing is parsed unless the text may hold a name of the system at its top level.

use std::{borrow::Cow, fmt};

use memchr::memmem;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Data;

/// The names that the system writes beside the data; `_type` only where the type travels as a field.
const NAMES: [&str; 5] = ["_task_id", "_app", "_model", "_run", "_timestamp"];
const TYPE: &str = "_type";

/// Appends the data as an object without its closing brace, ending with a comma where it has fields: `{"a":1,`.
/// What is no object becomes the field `value`.
pub(super) fn open(out: &mut Vec<u8>, data: Data<'_>, with_type: bool) {
    let json = match data {
        Data::Text(text) => return value(out, &string(text)),
        Data::Json(json) => json.trim_matches([' ', '\t', '\r', '\n']),
    };
    let Some(body) = json.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return value(out, json);
    };
    if may_hold_a_name(body)
        && let Some(kept) = without_names(json, with_type)
    {
        return out.extend_from_slice(kept.as_bytes());
    }
    let body = body.trim_end_matches([' ', '\t', '\r', '\n']);
    out.push(b'{');
    on_one_line(out, body);
    if !body.is_empty() {
        out.push(b',');
    }
}

/// A text as a JSON string.
pub(super) fn string(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

fn value(out: &mut Vec<u8>, json: &str) {
    out.extend_from_slice(br#"{"value":"#);
    on_one_line(out, json);
    out.push(b',');
}

/// Valid JSON holds CR and LF only between its tokens, where a space means the same.
fn on_one_line(out: &mut Vec<u8>, json: &str) {
    let start = out.len();
    out.extend_from_slice(json.as_bytes());
    // The whole text is looked at without a branch, which the compiler turns into wide instructions.
    if json.bytes().fold(false, |found, b| found | (b == b'\r') | (b == b'\n')) {
        for b in &mut out[start..] {
            if matches!(b, b'\r' | b'\n') {
                *b = b' ';
            }
        }
    }
}

/// Whether one of the names may stand in the text: spelt out, or with an escape for one of their letters (`\u005f` to
/// `\u007a`). Says yes too often, never too rarely.
fn may_hold_a_name(body: &str) -> bool {
    let spelt = memmem::find_iter(body.as_bytes(), b"\"_").any(|at| {
        let name = &body[at + 1..];
        NAMES.iter().chain([&TYPE]).any(|n| name.strip_prefix(n).is_some_and(|rest| rest.starts_with('"')))
    });
    spelt
        || memmem::find_iter(body.as_bytes(), b"\\u00")
            .any(|at| matches!(body.as_bytes().get(at + 4), Some(b'5' | b'6' | b'7')))
}

/// The object without the system's names, still open; none where the text is no object after all.
fn without_names(json: &str, with_type: bool) -> Option<String> {
    struct Fields {
        with_type: bool,
    }

    impl<'de> Visitor<'de> for Fields {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
            let mut kept = String::from("{");
            while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                let field = map.next_value::<&'de RawValue>()?;
                if NAMES.contains(&&*name) || (self.with_type && name == TYPE) {
                    continue;
                }
                kept.push_str(&string(&name));
                kept.push(':');
                kept.push_str(&field.get().replace(['\r', '\n'], " "));
                kept.push(',');
            }
            Ok(kept)
        }
    }

    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(Fields { with_type }).ok()
}
