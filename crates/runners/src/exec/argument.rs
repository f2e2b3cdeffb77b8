//! Arguments: what an exec command is given, one by one.
//!
//! Decides: which values may stand in an argument. A template fills a part of one argument and never makes two of it;
//! nothing is quoted, because no shell reads it. Never decides which program runs: the first word of a command holds
//! no template.

use soloist::{Json, limits};

use crate::template::{Part, Template};

/// One argument of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Argument(Template);

/// Whether an argument may begin with `-` because of what was filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dash {
    Refused,
    Allowed,
}

impl Argument {
    /// Reads an argument as it stands in the configuration.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Template::parse(text).map(Self)
    }

    /// A text in which nothing is filled in and a brace is a brace.
    pub(super) fn verbatim(text: &str) -> Self {
        Self(Template::verbatim(text))
    }

    /// The text of an argument without a template.
    pub(super) fn literal(&self) -> Option<&str> {
        self.0.literal()
    }

    /// The argument for one input, or what does not fit, naming the field.
    pub(super) fn fill(&self, input: &Json, dash: Dash) -> Result<String, String> {
        let mut filled = String::new();
        for part in self.0.parts() {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Field(field) => {
                    let value = field.value(input)?;
                    if value.contains('\0') {
                        return Err(format!(
                            "the input field {:?} holds a NUL, which no argument can",
                            field.name()
                        ));
                    }
                    filled.push_str(&value);
                }
            }
        }
        if let Some(Part::Field(field)) = self.0.parts().first() {
            // Text from the configuration before the field would be what the argument begins with.
            if dash == Dash::Refused && filled.starts_with('-') {
                return Err(format!(
                    "the input field {:?} makes an argument that begins with '-', which the command could take for \
                     an option; send another value, or set allow_dash = true for this model",
                    field.name()
                ));
            }
        }
        if filled.len() > limits::EXEC_ARGUMENT_MAX_BYTES && !self.0.is_literal() {
            return Err(format!(
                "the input field {:?} makes an argument of {} bytes; at most {} are allowed: let the command read \
                 the input from its stdin",
                self.0.fields(),
                filled.len(),
                limits::EXEC_ARGUMENT_MAX_BYTES
            ));
        }
        Ok(filled)
    }
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

    use proptest::prelude::*;

    fn config() -> ProptestConfig {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }

    /// Texts of a command, and what a shell would make more of.
    fn literal() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z=./-]{0,4}", Just(" ; $(x) '\"\n".to_owned()), "\\PC{0,4}"]
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        prop_oneof![
            4 => "[a-z \"'$;|&`\n-]{0,6}".prop_map(serde_json::Value::from),
            2 => "\\PC{0,6}".prop_map(serde_json::Value::from),
            1 => any::<i64>().prop_map(serde_json::Value::from),
            1 => any::<bool>().prop_map(serde_json::Value::from),
            1 => prop::sample::select(vec![
                serde_json::json!(null), serde_json::json!([1]), serde_json::json!({"a": 1}), serde_json::json!("x\0y"), serde_json::json!("-x"),
            ]),
        ]
    }

    /// What a value is in an argument; none where it can be none.
    fn as_text(value: &serde_json::Value) -> Option<String> {
        match value {
            serde_json::Value::String(text) if !text.contains('\0') => Some(text.clone()),
            serde_json::Value::Number(_) | serde_json::Value::Bool(_) => Some(value.to_string()),
            _ => None,
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn every_argument_stays_one_argument_made_of_what_was_said_and_given(
            arguments in prop::collection::vec(prop::collection::vec((literal(), 0..4_usize), 1..4), 1..5),
            values in prop::array::uniform3(value()), allow_dash in any::<bool>(),
        ) {
            let spelt = |pieces: &Vec<(String, usize)>| -> String {
                let pieces = pieces.iter().map(|(text, field)| {
                    let text = text.replace('{', "{{").replace('}', "}}");
                    if *field == 3 { text } else { format!("{text}{{input.f{field}}}") }
                });
                pieces.collect()
            };
            let command = ["program".to_owned()].into_iter().chain(arguments.iter().map(spelt)).collect();
            let options = super::super::options::ExecOptions { command, allow_dash, ..Default::default() };
            prop_assume!(arguments.iter().flatten().all(|(text, _)| !text.contains('\0')));
            let checked = options.check().map_err(|error| TestCaseError::fail(error.to_string()))?;
            let fields = values.iter().enumerate().map(|(i, value)| (format!("f{i}"), value.clone()));
            let input = Json::of(&serde_json::Value::Object(fields.collect())).unwrap();

            let mut wanted = Vec::new();
            for pieces in &arguments {
                let filled: Option<String> = pieces
                    .iter()
                    .map(|(text, field)| match values.get(*field) {
                        Some(value) => as_text(value).map(|value| format!("{text}{value}")),
                        None => Some(text.clone()),
                    })
                    .collect();
                let begins_with_field = pieces.iter().find(|(text, field)| !text.is_empty() || *field != 3);
                let by_input = begins_with_field.is_some_and(|(text, _)| text.is_empty());
                wanted.push(filled.filter(|filled| allow_dash || !by_input || !filled.starts_with('-')));
            }
            let given: Result<Vec<_>, _> =
                checked.arguments.iter().map(|argument| argument.fill(&input, checked.dash)).collect();
            match (given, wanted.into_iter().collect::<Option<Vec<_>>>()) {
                (Ok(given), Some(wanted)) => prop_assert_eq!(given, wanted),
                (Err(error), None) => {
                    prop_assert!(error.contains("the input field \"f"), "{}", error);
                    let shown = values.iter().filter_map(|value| value.as_str()).any(|text| {
                        text.chars().count() > 3 && error.contains(text)
                    });
                    prop_assert!(!shown, "{}", error);
                }
                (given, wanted) => return Err(TestCaseError::fail(format!("{given:?}, and not {wanted:?}"))),
            }
        }
    }
}
