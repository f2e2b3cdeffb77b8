//! Templates: how a field of the input becomes a part of what a model is given.
//!
//! Decides: what `{input.field}` means, and which values may stand there at all: a string, a number or a bool. Never
//! decides what a value must look like in its place (an argument, a path, a header), nor how it is written there.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use soloist::Json;

/// A text with places for fields of the input, read once when the configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

/// What a template is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// As it stands in the configuration, braces undone.
    Text(String),
    /// The place of a field.
    Field(Field),
}

/// A field of the input: the names on the way to it, outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field(Vec<String>);

impl Template {
    /// Reads a text as it stands in the configuration. `{input.a.b}` is the place of a field, `{{` and `}}` are braces.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
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
                parts.push(Part::Field(Field::parse(name)?));
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
    pub(crate) fn verbatim(text: &str) -> Self {
        Self { parts: vec![Part::Text(text.to_owned())] }
    }

    /// The text of a template without a place for a field.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The parts in order, at least one.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether it holds no place for a field.
    pub(crate) fn is_literal(&self) -> bool {
        self.literal().is_some()
    }

    /// The names of its fields, for an error.
    pub(crate) fn fields(&self) -> String {
        let names = self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Field(field) => Some(field.name()),
        });
        names.collect::<Vec<_>>().join(", ")
    }
}

impl Field {
    fn parse(template: &str) -> Result<Self, String> {
        let names: Option<Vec<_>> =
            template.strip_prefix("input.").map(|p| p.split('.').map(str::to_owned).collect());
        match names {
            Some(names) if names.iter().all(|name| !name.is_empty() && !name.contains('{')) => Ok(Self(names)),
            // Not the text: a part of it may have come from the environment.
            _ => Err("what stands between '{' and '}' is no template; write {input.field} for a field of the input, {{ and \
                      }} for braces"
                .into()),
        }
    }

    /// Its name within the input, such as `a.b`.
    pub(crate) fn name(&self) -> String {
        self.0.join(".")
    }

    /// The text of the field: a string as it is, a number or a bool as it stands in the JSON.
    pub(crate) fn value(&self, input: &Json) -> Result<String, String> {
        let mut text = input.as_str();
        for name in &self.0 {
            let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(text).unwrap_or_default();
            text = match fields.get(name.as_str()) {
                Some(raw) => raw.get(),
                None => {
                    return Err(format!("the input field {:?} is missing; the model needs it", self.name()));
                }
            };
        }
        let kind = match text.as_bytes().first() {
            Some(b'"') => {
                return Ok(serde_json::from_str(text).expect("a string within a Json was checked with it"));
            }
            Some(b'n') => "null",
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            _ => return Ok(text.to_owned()),
        };
        Err(format!(
            "the input field {:?} is {kind}; the model needs a string, a number or a bool",
            self.name()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_template_is_cut_at_its_fields() {
        let template = Template::parse("a{{b}}{input.c.d}{input.e}f").unwrap();
        let [Part::Text(first), Part::Field(second), Part::Field(third), Part::Text(last)] = template.parts()
        else {
            panic!("{template:?}")
        };
        assert_eq!((&**first, second.name(), third.name(), &**last), ("a{b}", "c.d".into(), "e".into(), "f"));
        assert_eq!(template.fields(), "c.d, e");
        assert_eq!(Template::parse("").unwrap().literal(), Some(""));
    }

    #[test]
    fn a_field_is_found_by_its_names_and_the_last_of_a_name_counts() {
        let input = Json::parse(r#"{"a":{"b":[1]},"n":1.50,"s":"\u0041","t":1,"t":true,"z":null}"#).unwrap();
        let value = |name: &str| Field::parse(name).unwrap().value(&input);
        assert_eq!(value("input.s").as_deref(), Ok("A"));
        assert_eq!(value("input.n").as_deref(), Ok("1.50"));
        assert_eq!(value("input.t").as_deref(), Ok("true"));
        for refused in ["a", "a.b", "a.b.c", "z", "missing", "s.t"] {
            let error = value(&format!("input.{refused}")).unwrap_err();
            assert!(error.contains(&format!("\"{refused}\"")), "{error}");
        }
    }

    use proptest::prelude::*;

    fn config() -> ProptestConfig {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn any_text_is_a_template_or_an_error_that_shows_nothing_of_it(
            text in prop_oneof!["\\PC{0,24}", any::<String>(), "([{}]|input|[.]|[a-c ]|\\{input[.]a\\}){0,10}"],
        ) {
            match Template::parse(&text) {
                Ok(template) => {
                    // Written down again, it is what it was.
                    let parts = template.parts().iter().map(|part| match part {
                        Part::Text(text) => text.replace('{', "{{").replace('}', "}}"),
                        Part::Field(field) => format!("{{input.{}}}", field.name()),
                    });
                    prop_assert_eq!(parts.collect::<String>(), text);
                    prop_assert!(!template.parts().is_empty());
                }
                Err(error) => {
                    prop_assert!(text.contains(['{', '}']), "{}", text);
                    prop_assert!(text.chars().count() < 8 || !error.contains(&text), "{}", error);
                }
            }
        }

        #[test]
        fn a_text_with_its_braces_doubled_is_itself(text in "\\PC{0,24}|[{}a ]{0,12}") {
            let template = Template::parse(&text.replace('{', "{{").replace('}', "}}"));
            prop_assert_eq!(template.as_ref().ok().and_then(Template::literal), Some(text.as_str()));
            let verbatim = Template::verbatim(&text);
            prop_assert_eq!(verbatim.literal(), Some(text.as_str()));
        }

        #[test]
        fn a_field_is_found_wherever_it_stands_and_in_no_other_text(
            names in prop::collection::vec("[a-c]{1,2}", 1..4), value in "\\PC{0,8}", beside in "\\PC{0,8}",
        ) {
            let mut input = serde_json::Value::from(value.clone());
            for name in names.iter().rev() {
                // A field whose name is the whole way is another one.
                input = serde_json::json!({ name: input, names.join("."): beside, "x": { "y": beside } });
            }
            if names.len() == 1 {
                input[&names[0]] = value.clone().into();
            }
            let input = Json::of(&input).unwrap();
            let field = Field::parse(&format!("input.{}", names.join("."))).unwrap();
            prop_assert_eq!(field.value(&input), Ok(value));
            let error = Field::parse("input.nowhere.at.all").unwrap().value(&input).unwrap_err();
            prop_assert!(error.contains("nowhere.at.all"));
        }
    }
}
