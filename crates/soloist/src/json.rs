//! JSON as text: checked once, kept as it was sent.
//!
//! Decides: what is taken as JSON (RFC 8259 with the limits that its section 9 allows: nesting up to
//! [`limits::JSON_MAX_DEPTH`], numbers within the range of a 64-bit float) and when two texts are the same value. Never changes a text: what a creator sent is what the work and the record get.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{Error, Result, limits};

/// A JSON text that is known to be valid. Cheap to clone.
///
/// ```
/// use soloist::Json;
/// let a = Json::parse(r#"{"a": 1, "b": [true]}"#)?;
/// let b = Json::parse(r#"{"b":[true],"a":1}"#)?;
/// assert!(a.same_value(&b));
/// assert_eq!(a.as_str(), r#"{"a": 1, "b": [true]}"#);
/// # Ok::<(), soloist::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Arc<str>);

impl Json {
    /// `null`.
    #[must_use]
    pub fn null() -> Self {
        Self("null".into())
    }

    /// Checks a text; white space around the value is dropped.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the code `invalid_json`, naming line and column.
    pub fn parse(text: &str) -> Result<Self> {
        Self::verbatim(text.trim_matches([' ', '\t', '\r', '\n']))
    }

    /// The same, with the white space around the value.
    pub(crate) fn verbatim(text: &str) -> Result<Self> {
        let mut reader = serde_json::Deserializer::from_str(text);
        Depth(0)
            .deserialize(&mut reader)
            .and_then(|()| reader.end())
            .map_err(|e| Error::invalid("invalid_json", format!("not JSON: {e}")))?;
        Ok(Self(text.into()))
    }

    /// A text that a store gives back; it was checked before it went in.
    #[must_use]
    pub fn from_store(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The JSON of any value that can be written as JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the code `invalid_json` where it cannot (such as a map whose keys are no strings).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::to_string(value)
            .map(|text| Self(text.into()))
            .map_err(|e| Error::invalid("invalid_json", format!("cannot be written as JSON: {e}")))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a value of a type.
    ///
    /// # Errors
    /// What serde says about the first thing that does not fit.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// Whether the value is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.0.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{')
    }

    /// Whether both are the same value: the order of keys and white space aside, numbers by their text (so that `1.0`
    /// and `1` differ, and no digit is lost to rounding). Of a key that stands twice the last one counts.
    #[must_use]
    pub fn same_value(&self, other: &Self) -> bool {
        self.0 == other.0 || self.canonical() == other.canonical()
    }

    /// One text for all texts of the same value, see [`Json::same_value`].
    #[must_use]
    pub(crate) fn canonical(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        canonical(self.0.trim_start_matches([' ', '\t', '\r', '\n']), &mut out);
        out
    }
}

impl fmt::Debug for Json {
    /// Only the length: payloads never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

/// Writes a valid JSON text without white space, its keys in order, each once, its strings in one spelling.
fn canonical(text: &str, out: &mut String) {
    let string = |text: &str| serde_json::to_string(text).expect("a string can be written");
    match text.as_bytes().first() {
        Some(b'{') => {
            let object: BTreeMap<String, &RawValue> = serde_json::from_str(text).expect("the text is JSON");
            out.push('{');
            for (i, (key, value)) in object.into_iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                out.push_str(&string(&key));
                out.push(':');
                canonical(value.get(), out);
            }
            out.push('}');
        }
        Some(b'[') => {
            let array: Vec<&RawValue> = serde_json::from_str(text).expect("the text is JSON");
            out.push('[');
            for (i, value) in array.into_iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                canonical(value.get(), out);
            }
            out.push(']');
        }
        Some(b'"') => {
            out.push_str(&string(&serde_json::from_str::<String>(text).expect("the text is JSON")));
        }
        _ => out.push_str(text),
    }
}

/// Walks a JSON text without keeping any of it, and refuses one that is nested too deep.
struct Depth(usize);

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.0 + 1;
        if inner > limits::JSON_MAX_DEPTH {
            return Err(A::Error::custom("nested too deep"));
        }
        while seq.next_element_seed(Depth(inner))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.0 + 1;
        if inner > limits::JSON_MAX_DEPTH {
            return Err(A::Error::custom("nested too deep"));
        }
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Depth(inner))?;
        }
        Ok(())
    }
}

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Json::parse(raw.get()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_json_and_numbers_by_their_text() {
        let same = |a: &str, b: &str| Json::parse(a).unwrap().same_value(&Json::parse(b).unwrap());
        assert!(same(r#"{"a":1,"b":{"c":[1,2]}}"#, r#" { "b" : {"c":[1, 2]}, "a":1}"#));
        assert!(same(r#""\u0041""#, r#""A""#));
        assert!(!same("1", "1.0"));
        assert!(!same("9007199254740993", "9007199254740992"));
        assert!(!same("[1,2]", "[2,1]"));
        assert!(!same(r#"{"a":1}"#, r#"{"a":1,"b":null}"#));
        assert!(same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#));
    }

    #[test]
    fn json_is_checked_and_too_deep_a_nesting_refused() {
        for bad in ["", "{", "{a:1}", "[1,]", "nul", "1 2", "\"\n\"", "\u{feff}1", "NaN"] {
            assert_eq!(Json::parse(bad).unwrap_err().code(), "invalid_json", "{bad:?}");
        }
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(Json::parse(&nested(limits::JSON_MAX_DEPTH)).is_ok());
        assert!(Json::parse(&nested(limits::JSON_MAX_DEPTH + 1)).is_err());
        assert!(Json::parse(&nested(500_000)).is_err());
        assert_eq!(Json::parse(" {} \n").unwrap().as_str(), "{}");
    }
}
