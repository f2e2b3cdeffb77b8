//! The address of an endpoint, with places for fields of the input.
//!
//! Decides: which addresses an input can lead to: the same scheme, host and port always, and a path of the same shape.
//! A value fills a part of one segment of the path, or a part of the query, percent-encoded but for the characters that
//! RFC 3986 section 2.3 leaves alone. A value that is empty is refused, and so is one that makes a step (`.`, `..`), also
//! where it would only do so once somebody behind the endpoint has decoded a `%2F` in it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Url;
use soloist::{Json, limits};

use crate::template::{Part, Template};

/// What stays as it is: `ALPHA / DIGIT / "-" / "." / "_" / "~"`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An address, read once when the configuration is.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// Scheme, host and port, and what a filled address is held to.
    origin: Url,
    /// The parts of each segment of the path; the first begins after its first slash.
    path: Vec<Vec<Part>>,
    /// The parts of the query, where there is one.
    query: Option<Vec<Part>>,
}

impl Address {
    /// Reads an address as it stands in the configuration.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = "write an address such as http://127.0.0.1:9000/generate";
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(format!("it holds a space, a backslash or a control character; {wrong}"));
        }
        if text.contains('#') {
            return Err("a '#' begins a part that no server is sent; take it out, or write %23".into());
        }
        let scheme_ends = text.find("://").filter(|end| matches!(&text[..*end], "http" | "https"));
        let scheme_ends = scheme_ends.ok_or_else(|| format!("its scheme is not http or https; {wrong}"))?;
        let after = &text[scheme_ends + 3..];
        let (authority, rest) = after.split_at(after.find(['/', '?']).unwrap_or(after.len()));
        if authority.contains(['{', '}']) {
            return Err("the host and the port may not come from the input; name them".into());
        }
        if authority.contains('@') {
            return Err("it holds a user; say it in a header: headers = { Authorization = \"...\" }".into());
        }
        let origin = Url::parse(&format!("{}{authority}", &text[..scheme_ends + 3]));
        let origin = origin.map_err(|error| format!("{error}; {wrong}"))?;

        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let path = segments(&Template::parse(path.strip_prefix('/').unwrap_or(path))?);
        let query = query.map(|query| Template::parse(query).map(|q| q.parts().to_vec())).transpose()?;
        if path.iter().chain(&query).any(|parts| has_open_escape(parts)) {
            return Err("a '%' that begins an escape stands before the place of a field, whose value would end it; write %25 \
                        for one that is meant as one"
                .into());
        }
        // At the end of a path it would be resolved away without a trace.
        if path.iter().any(|segment| is_step(segment)) {
            return Err("no segment of its path may be '.' or '..'".into());
        }
        let address = Self { origin, path, query };
        // With a harmless value in every place: what does not keep its shape now never will.
        address.render(&mut |_| Ok("x".to_owned()))?;
        Ok(address)
    }

    /// The address for one input, or what does not fit, naming the field.
    pub(super) fn fill(&self, input: &Json) -> Result<Url, String> {
        self.render(&mut |part| match part {
            Part::Text(text) => Ok(text.clone()),
            Part::Field(field) => field.value(input),
        })
    }

    /// The address with what `value` says of each field.
    fn render(&self, value: &mut dyn FnMut(&Part) -> Result<String, String>) -> Result<Url, String> {
        let mut text = self.origin.as_str().trim_end_matches('/').to_owned();
        for segment in &self.path {
            text.push('/');
            text.push_str(&fill_segment(segment, value)?);
        }
        if let Some(query) = &self.query {
            text.push('?');
            for part in query {
                match part {
                    Part::Text(literal) => text.push_str(literal),
                    field @ Part::Field(_) => text.extend(utf8_percent_encode(&value(field)?, ENCODED)),
                }
            }
        }
        if text.len() > limits::HTTP_ADDRESS_MAX_BYTES {
            return Err(format!(
                "the input makes an address of {} bytes; at most {} are allowed",
                text.len(),
                limits::HTTP_ADDRESS_MAX_BYTES
            ));
        }
        let url = Url::parse(&text).map_err(|error| format!("the address cannot be read: {error}"))?;
        let has_shape = url.path_segments().is_some_and(|segments| segments.count() == self.path.len());
        if url.origin() != self.origin.origin() || !has_shape || url.fragment().is_some() {
            return Err(
                "the address does not keep its shape: no segment of its path may be '.' or '..'".into()
            );
        }
        Ok(url)
    }
}

/// Whether what is filled in would be read as the end of an escape that the configuration has begun.
fn has_open_escape(parts: &[Part]) -> bool {
    parts.windows(2).any(|pair| match pair {
        [Part::Text(text), Part::Field(_)] => {
            let mut last = text.bytes().rev();
            match last.next() {
                Some(b'%') => true,
                Some(digit) => digit.is_ascii_hexdigit() && last.next() == Some(b'%'),
                None => false,
            }
        }
        _ => false,
    })
}

/// Whether a segment of the configuration is a step, as it stands there or once it is decoded.
fn is_step(segment: &[Part]) -> bool {
    let [Part::Text(text)] = segment else { return false };
    matches!(&*percent_decode_str(text).decode_utf8_lossy(), "." | "..")
}

/// A path, cut at the slashes that stand in the configuration.
fn segments(path: &Template) -> Vec<Vec<Part>> {
    let mut segments = vec![Vec::new()];
    for part in path.parts() {
        let Part::Text(text) = part else {
            segments.last_mut().expect("there is one").push(part.clone());
            continue;
        };
        for (i, text) in text.split('/').enumerate() {
            if i > 0 {
                segments.push(Vec::new());
            }
            if !text.is_empty() {
                segments.last_mut().expect("there is one").push(Part::Text(text.to_owned()));
            }
        }
    }
    segments
}

fn fill_segment(
    segment: &[Part],
    value: &mut dyn FnMut(&Part) -> Result<String, String>,
) -> Result<String, String> {
    let mut filled = String::new();
    for part in segment {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Field(field) => {
                let value = value(part)?;
                let is_step =
                    value.is_empty() || value.split(['/', '\\']).any(|step| matches!(step, "." | ".."));
                if is_step || value.chars().any(char::is_control) {
                    return Err(format!(
                        "the input field {:?} stands in the path of an address and may not be empty, hold a control \
                         character, or be or hold a step '.' or '..'",
                        field.name()
                    ));
                }
                filled.extend(utf8_percent_encode(&value, ENCODED));
            }
        }
    }
    // Together with what stands around it, a harmless value may be a step as well.
    let plain = percent_decode_str(&filled).decode_utf8_lossy();
    let is_filled = segment.iter().any(|part| matches!(part, Part::Field(_)));
    if is_filled && plain.split(['/', '\\']).any(|step| matches!(step, "." | "..")) {
        return Err("the input makes a segment of the path that is or holds a step '.' or '..'".into());
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(address: &str, input: &serde_json::Value) -> Result<String, String> {
        let address = Address::parse(address).unwrap();
        address.fill(&Json::of(input).unwrap()).map(|url| url.to_string())
    }

    #[test]
    fn values_fill_their_place_percent_encoded() {
        let input = serde_json::json!({
            "a": "x y/z?#%&=+@:\\", "u": "\u{fc}\u{1f600}", "n": -1.5, "d": "...", "url": "http://evil.example/x",
            "crlf": "a\r\nHost: evil", "e": "", "dots": "..",
        });
        for (address, filled) in [
            ("http://h", "http://h/"),
            ("http://h/{input.u}", "http://h/%C3%BC%F0%9F%98%80"),
            ("http://h:81/a/{input.a}/b", "http://h:81/a/x%20y%2Fz%3F%23%25%26%3D%2B%40%3A%5C/b"),
            ("https://h/v{input.n}", "https://h/v-1.5"),
            ("http://h/{input.d}", "http://h/..."),
            ("http://h/{input.url}", "http://h/http%3A%2F%2Fevil.example%2Fx"),
            ("http://h?q={input.crlf}", "http://h/?q=a%0D%0AHost%3A%20evil"),
            ("http://h/x?q={input.e}&r={input.dots}&{{}}", "http://h/x?q=&r=..&{}"),
            ("http://b\u{fc}cher.example/", "http://xn--bcher-kva.example/"),
            ("http://[::1]:9/%7Bx%7D/", "http://[::1]:9/%7Bx%7D/"),
        ] {
            assert_eq!(fill(address, &input).as_deref(), Ok(filled), "{address}");
        }
    }

    #[test]
    fn a_value_makes_no_step_in_a_path() {
        for value in ["", ".", "..", "../x", "x/..", "a/./b", "..\\x", "a\0b", "a\r\nb", "\u{7f}"] {
            let error = fill("http://h/a/{input.v}/b", &serde_json::json!({ "v": value })).unwrap_err();
            assert!(error.contains("\"v\""), "{value:?}: {error}");
        }
        let joined = |address| fill(address, &serde_json::json!({ "v": ".x", "w": "x." }));
        assert!(joined("http://h/{input.v}{input.w}").is_ok());
        for address in ["http://h/.{input.v}", "http://h/%2E{input.v}", "http://h/{input.v}{input.v}"] {
            let refused = Address::parse(address).unwrap().fill(&Json::parse(r#"{"v":"."}"#).unwrap());
            assert!(refused.is_err(), "{address}");
        }
    }

    #[test]
    fn an_address_whose_host_is_not_fixed_is_an_error_of_the_configuration() {
        for bad in [
            "",
            "generate",
            "ftp://h/",
            "file:///etc/passwd",
            "HTTP://h/",
            "http://",
            "http:///x",
            "http://{input.host}/",
            "http://h{input.x}",
            "http://h:{input.port}/",
            "{input.url}",
            "http://me:secret@h/",
            "http://h/#x",
            "http://h/a\\b",
            "http://h/a b",
            "http://h/a\nb",
            "http://h/../x",
            "http://h/%2e%2e/x",
            "http://h/./x",
            "http://h/{input.a",
            "http://h:99999/",
            "http://h/..",
            "http://h/%2E%2e",
            "http://h/x/.",
            "http://h/{input.x}/%2e",
            "http://h/%{input.x}",
            "http://h/a%2{input.x}",
            "http://h/?q=%{input.x}2e",
            "http://h/?q=%2{input.x}",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_over_long_address_is_refused() {
        let long = "x".repeat(limits::HTTP_ADDRESS_MAX_BYTES);
        assert!(fill("http://h?{input.v}", &serde_json::json!({ "v": long })).is_err());
    }

    /// Texts that paths and queries are made of, and what would like to leave them.
    fn literal() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[a-z0-9._~%-]{0,4}",
            1 => prop::sample::select(vec!["/", "//", "..", "%2e", "%2E%2e", "%2F", "a/b", "{{", "}}", "@", ":8", ";x", "&k="])
                .prop_map(str::to_owned),
        ]
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            2 => "[./%\\\\@#?:a-f0-9 \r\n]{0,8}",
            2 => "\\PC{0,8}",
            1 => prop::sample::select(vec!["..", ".", "", "%2e%2e", "../..", "//evil", "http://evil/", "x\0", "\u{feff}"])
                .prop_map(str::to_owned),
            1 => "[a-z]{1,3}",
        ]
    }

    fn config() -> ProptestConfig {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }

    /// Texts, each with the number of a field after it; 3 is none.
    type Pieces = [(String, usize)];

    /// Pieces as a configuration has them.
    fn spelt(pieces: &Pieces) -> String {
        let pieces = pieces.iter().map(|(text, field)| match field {
            3 => text.clone(),
            field => format!("{text}{{input.f{field}}}"),
        });
        pieces.collect()
    }

    /// What pieces mean, cut where the configuration is cut: its own texts may be escaped, and values are taken as they are.
    fn filled(pieces: &Pieces, values: &[String], cut: char) -> Vec<String> {
        let (mut parts, mut literal) = (vec![String::new()], String::new());
        for (text, field) in pieces {
            literal.push_str(&text.replace("{{", "{").replace("}}", "}"));
            let Some(value) = values.get(*field) else { continue };
            take(&mut parts, &mut literal, cut);
            parts.last_mut().unwrap().push_str(value);
        }
        take(&mut parts, &mut literal, cut);
        parts
    }

    fn take(parts: &mut Vec<String>, literal: &mut String, cut: char) {
        for (i, text) in literal.split(cut).enumerate() {
            if i > 0 {
                parts.push(String::new());
            }
            parts.last_mut().unwrap().push_str(&decoded(text));
        }
        literal.clear();
    }

    fn decoded(text: &str) -> String {
        percent_decode_str(text).decode_utf8_lossy().into_owned()
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn whatever_a_template_and_its_values_hold_the_request_stays_at_its_origin_and_in_its_path(
            pieces in prop::collection::vec((literal(), 0..4_usize), 0..5),
            query in prop::option::of(prop::collection::vec((literal(), 0..4_usize), 0..4)),
            values in prop::array::uniform3(value()),
            origin in prop::sample::select(vec!["http://h.example:8080", "https://h.example", "http://[::1]:9", "http://127.0.0.1"]),
        ) {
            let path = pieces;
            let written = match &query {
                Some(query) => format!("{origin}/{}?{}", spelt(&path), spelt(query)),
                None => format!("{origin}/{}", spelt(&path)),
            };
            // What cannot keep its shape is an error of the configuration.
            let Ok(address) = Address::parse(&written) else { return Ok(()) };
            let fields = values.iter().enumerate().map(|(i, value)| (format!("f{i}"), value.clone().into()));
            let input = Json::of(&serde_json::Value::Object(fields.collect())).unwrap();
            match address.fill(&input) {
                Ok(url) => {
                    prop_assert_eq!(url.origin(), Url::parse(origin).unwrap().origin());
                    prop_assert!(url.fragment().is_none() && url.username().is_empty() && url.password().is_none());
                    let segments: Vec<_> = url.path_segments().unwrap().collect();
                    // The slashes of the configuration are all that there are, and each segment holds what it says.
                    let wanted = filled(&path, &values, '/');
                    prop_assert_eq!(segments.iter().map(|segment| decoded(segment)).collect::<Vec<_>>(), wanted, "{} of {}", url, written);
                    let by_config = spelt(&path);
                    for (segment, shape) in segments.iter().zip(by_config.split('/')) {
                        let is_filled = shape.contains("{input.");
                        let steps = decoded(segment);
                        prop_assert!(!is_filled || steps.split(['/', '\\']).all(|step| step != "." && step != ".."), "{}", url);
                    }
                    let wanted = query.map(|query| filled(&query, &values, '&'));
                    let got = url.query().map(|query| query.split('&').map(decoded).collect::<Vec<_>>());
                    prop_assert_eq!(got, wanted, "{}", written);
                }
                Err(error) => {
                    // A field is named; what it holds is nobody's business.
                    let is_shown = values.iter().any(|value| value.chars().count() > 3 && error.contains(value.as_str()));
                    prop_assert!(!is_shown, "{}", error);
                }
            }
        }

        #[test]
        fn any_text_is_an_address_or_an_error_of_the_configuration(
            text in prop_oneof!["\\PC{0,30}", any::<String>(), "https?://[a-z0-9.:\\[\\]@{}/?#%]{0,20}", "http://h/[{}a-z./%?]{0,20}"],
        ) {
            if let Ok(address) = Address::parse(&text) {
                // It was tried with something harmless in each place, and goes where it says.
                let url = address.render(&mut |_| Ok("x".to_owned())).unwrap();
                prop_assert!(matches!(url.scheme(), "http" | "https") && url.has_host() && text.starts_with(url.scheme()));
            }
        }
    }
}
