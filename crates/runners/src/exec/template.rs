//! Templates: how a field of the input becomes an argument of a command.
//!
//! Decides: what `{input.field}` means, and which values may stand there. A template fills a part of one argument and
//! never makes two of it; nothing is quoted, because no shell reads it. Never decides which program runs: the first
//! word of a command holds no template.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use soloist::{Json, limits};

/// One argument of a command, read once when the configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Argument {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The names on the way to a field of the input, outermost first.
    Field(Vec<String>),
}

/// Whether an argument may begin with `-` because of what was filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dash {
    Refused,
    Allowed,
}

impl Argument {
    /// Reads an argument as it stands in the configuration. `{input.a.b}` is a template, `{{` and `}}` are braces.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
            } else if brace == "}" {
                return Err("a '}' without its '{'; write }} for a brace that is meant as one".into());
            } else {
                let (name, after) = rest
                    .split_once('}')
                    .ok_or("a '{' without its '}'; write {{ for a brace that is meant as one")?;
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Field(path(name)?));
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() || parts.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// A text in which nothing is filled in and a brace is a brace.
    pub(super) fn verbatim(text: &str) -> Self {
        Self { parts: vec![Part::Text(text.to_owned())] }
    }

    /// The text of an argument without a template.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The argument for one input, or what does not fit, naming the field.
    pub(super) fn fill(&self, input: &Json, dash: Dash) -> Result<String, String> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Field(path) => filled.push_str(&value(input, path)?),
            }
        }
        if let Some(Part::Field(path)) = self.parts.first() {
            // Text from the configuration before the field would be what the argument begins with.
            if dash == Dash::Refused && filled.starts_with('-') {
                return Err(format!(
                    "the input field {:?} makes an argument that begins with '-', which the command could take for \
                     an option; send another value, or set allow_dash = true for this model",
                    path.join(".")
                ));
            }
        }
        if filled.len() > limits::EXEC_ARGUMENT_MAX_BYTES && self.literal().is_none() {
            let fields: Vec<_> = self.fields().collect();
            return Err(format!(
                "the input field {:?} makes an argument of {} bytes; at most {} are allowed: let the command read \
                 the input from its stdin",
                fields.join(", "),
                filled.len(),
                limits::EXEC_ARGUMENT_MAX_BYTES
            ));
        }
        Ok(filled)
    }

    fn fields(&self) -> impl Iterator<Item = String> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Field(path) => Some(path.join(".")),
        })
    }
}

fn path(template: &str) -> Result<Vec<String>, String> {
    let names: Option<Vec<_>> =
        template.strip_prefix("input.").map(|p| p.split('.').map(str::to_owned).collect());
    match names {
        Some(names) if names.iter().all(|name| !name.is_empty() && !name.contains('{')) => Ok(names),
        _ => Err(format!(
            "{{{template}}} is no template; write {{input.field}} for a field of the input, {{{{ and }}}} for braces"
        )),
    }
}

/// The text of a field: a string as it is, a number or a bool as it stands in the JSON.
fn value(input: &Json, path: &[String]) -> Result<String, String> {
    let named = || path.join(".");
    let mut text = input.as_str();
    for name in path {
        let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(text).unwrap_or_default();
        text = match fields.get(name.as_str()) {
            Some(raw) => raw.get(),
            None => return Err(format!("the input field {:?} is missing; the command needs it", named())),
        };
    }
    let kind = match text.as_bytes().first() {
        Some(b'"') => {
            let text: String =
                serde_json::from_str(text).expect("a string within a Json was checked with it");
            if text.contains('\0') {
                return Err(format!("the input field {:?} holds a NUL, which no argument can", named()));
            }
            return Ok(text);
        }
        Some(b'n') => "null",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        _ => return Ok(text.to_owned()),
    };
    Err(format!("the input field {:?} is {kind}; the command needs a string, a number or a bool", named()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, input: &str) -> Result<String, String> {
        Argument::parse(template).unwrap().fill(&Json::parse(input).unwrap(), Dash::Refused)
    }

    #[test]
    fn values_fill_one_argument_as_they_are() {
        let input =
            r#"{"s":"a b; $(rm) '\"*","n":12345678901234567890.50,"b":true,"o":{"p":{"q":"deep"}},"e":""}"#;
        for (template, expected) in [
            ("{input.s}", "a b; $(rm) '\"*"),
            ("x={input.n}", "x=12345678901234567890.50"),
            ("{input.b}{input.b}", "truetrue"),
            ("{input.o.p.q}.mp4", "deep.mp4"),
            ("{input.e}", ""),
            ("{{input.s}}", "{input.s}"),
            ("{{{input.b}}}", "{true}"),
            ("", ""),
        ] {
            assert_eq!(fill(template, input).as_deref(), Ok(expected), "{template}");
        }
        assert_eq!(fill("{input.a}", r#"{"a":1,"a":"last"}"#).as_deref(), Ok("last"));
    }

    #[test]
    fn what_cannot_be_filled_in_is_refused_by_the_name_of_its_field() {
        let input = r#"{"a":null,"b":{"c":[1]},"z":"x\u0000y","s":"x"}"#;
        for field in ["a", "b", "b.c", "b.c.d", "z", "missing", "s.t"] {
            let error = fill(&format!("{{input.{field}}}"), input).unwrap_err();
            assert!(error.contains(&format!("\"{field}\"")), "{field}: {error}");
        }
        assert!(fill("{input.a}", "[1]").unwrap_err().contains("missing"));
        let long = format!(r#"{{"l":"{}"}}"#, "x".repeat(limits::EXEC_ARGUMENT_MAX_BYTES));
        assert!(fill("{input.l}", &long).is_ok());
        assert!(fill("+{input.l}", &long).unwrap_err().contains("\"l\""));
    }

    #[test]
    fn input_makes_no_argument_that_begins_with_a_dash() {
        let input = r#"{"d":"-rf","n":-1,"e":"","m":"a-b"}"#;
        for refused in ["{input.d}", "{input.n}", "{input.e}{input.d}", "{input.e}-x", "{input.d}x"] {
            assert!(fill(refused, input).unwrap_err().contains("allow_dash"), "{refused}");
        }
        for fine in ["--out={input.d}", "-n{input.n}", "./{input.d}", "{input.m}", "-{input.e}"] {
            assert!(fill(fine, input).is_ok(), "{fine}");
        }
        let allowed = Argument::parse("{input.d}").unwrap().fill(&Json::parse(input).unwrap(), Dash::Allowed);
        assert_eq!(allowed.as_deref(), Ok("-rf"));
    }

    #[test]
    fn what_is_no_template_is_an_error_of_the_configuration() {
        for bad in [
            "{}",
            "{x}",
            "{input}",
            "{input.}",
            "{input..a}",
            "{input.a",
            "{",
            "}",
            "a}b",
            "{ input.a }",
            "{inputs.a}",
            "{input.a{b}",
            "{task.id}",
            "{print $1}",
        ] {
            assert!(Argument::parse(bad).is_err(), "{bad}");
        }
    }
}
