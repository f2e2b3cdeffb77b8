//! One value of the configuration, wherever it came from.
//!
//! Decides: how TOML, a variable of the environment and a flag become the same [`Value`], how `${NAME}` is filled in,
//! and what of a value may be shown. What was filled in from the environment is never shown: a value carries the text
//! that its author wrote beside what it resolves to.

use std::{fmt, ops::RangeInclusive};

use toml::{Spanned, de::DeValue};

/// Where the variables of the environment come from; tests hand in their own.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File { name: String, line: usize },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{name} line {line}"),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// What kind of text a variable or a flag is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Switch,
    /// Parts between commas.
    List,
    /// Names with texts; only in a file.
    Texts,
    /// Numbers in a list; only in a file.
    Numbers,
    /// Names with lengths of time; only in a file.
    Times,
}

#[derive(Debug, Clone)]
enum Content {
    Text(Text),
    Number(i64),
    Switch(bool),
    List(Vec<Value>),
    Table(Vec<(String, Value)>),
    Other,
}

/// A text, for those who take it as it is and for those who read templates in it.
#[derive(Debug, Clone)]
struct Text {
    plain: String,
    /// The same with the braces doubled of what came from the environment: nothing in there is a template.
    template: String,
}

impl Text {
    fn of(text: &str) -> Self {
        Self { plain: text.to_owned(), template: text.to_owned() }
    }

    fn push(&mut self, text: &str) {
        self.plain.push_str(text);
        self.template.push_str(text);
    }
}

/// A value with what may be shown of it.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    content: Content,
    /// As TOML, as its author wrote it.
    shown: String,
}

/// Why a value was not taken; an empty one means that what the setting allows says it all. It never holds the value,
/// which may have come from the environment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wrong(pub(crate) String);

/// A result whose error is [`Wrong`].
pub(crate) type Taken<T = ()> = Result<T, Wrong>;

impl Value {
    /// The value of a variable or a flag: plain text, read as the setting's kind.
    pub(crate) fn plain(text: &str, kind: Kind) -> Self {
        let content = match kind {
            Kind::Number => text.trim().parse().map(Content::Number).ok(),
            Kind::Switch => text.trim().parse().map(Content::Switch).ok(),
            Kind::List if text.trim().is_empty() => Some(Content::List(Vec::new())),
            Kind::List => Some(Content::List(
                text.split(',').map(|part| Self::plain(part.trim(), Kind::Text)).collect(),
            )),
            Kind::Text | Kind::Texts | Kind::Numbers | Kind::Times => None,
        };
        let content = content.unwrap_or_else(|| Content::Text(Text::of(text)));
        let shown = show(&content);
        Self { content, shown }
    }

    /// A value of a file, with every `${NAME}` filled in; `$${` stands for `${` itself.
    pub(crate) fn from_toml(value: &Spanned<DeValue<'_>>, lookup: Lookup<'_>) -> Taken<Self> {
        let content = match value.get_ref() {
            DeValue::String(text) => {
                return Ok(Self {
                    content: Content::Text(fill(text, lookup)?),
                    shown: quoted(&without_password(text)),
                });
            }
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).map_or(Content::Other, Content::Number)
            }
            DeValue::Boolean(switch) => Content::Switch(*switch),
            DeValue::Array(parts) => {
                Content::List(parts.iter().map(|part| Self::from_toml(part, lookup)).collect::<Taken<_>>()?)
            }
            DeValue::Table(table) => Content::Table(
                table
                    .iter()
                    .map(|(name, value)| Ok((name.get_ref().to_string(), Self::from_toml(value, lookup)?)))
                    .collect::<Taken<_>>()?,
            ),
            DeValue::Float(_) | DeValue::Datetime(_) => Content::Other,
        };
        let shown = show(&content);
        Ok(Self { content, shown })
    }

    /// What may be shown, as TOML: the author's text, with no password in a URL and nothing of the environment.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    pub(crate) fn text(&self) -> Taken<&str> {
        match &self.content {
            Content::Text(text) => Ok(&text.plain),
            _ => Err(Wrong::default()),
        }
    }

    /// The text of a template; braces of what came from the environment are doubled.
    pub(crate) fn template(&self) -> Taken<&str> {
        match &self.content {
            Content::Text(text) => Ok(&text.template),
            _ => Err(Wrong::default()),
        }
    }

    pub(crate) fn number(&self, range: RangeInclusive<u64>) -> Taken<u64> {
        match &self.content {
            Content::Number(number) => {
                u64::try_from(*number).ok().filter(|n| range.contains(n)).ok_or_else(Wrong::default)
            }
            _ => Err(Wrong::default()),
        }
    }

    pub(crate) fn switch(&self) -> Taken<bool> {
        match &self.content {
            Content::Switch(switch) => Ok(*switch),
            _ => Err(Wrong::default()),
        }
    }

    pub(crate) fn list(&self) -> Taken<Vec<String>> {
        match &self.content {
            Content::List(parts) => parts.iter().map(|part| part.text().map(str::to_owned)).collect(),
            _ => Err(Wrong::default()),
        }
    }

    pub(crate) fn numbers(&self, range: RangeInclusive<u64>) -> Taken<Vec<u64>> {
        match &self.content {
            Content::List(parts) => parts.iter().map(|part| part.number(range.clone())).collect(),
            _ => Err(Wrong::default()),
        }
    }

    /// Names with the texts of their times.
    pub(crate) fn times(&self) -> Taken<Vec<(&str, &str)>> {
        match &self.content {
            Content::Table(entries) => {
                entries.iter().map(|(name, value)| Ok((name.as_str(), value.text()?))).collect()
            }
            _ => Err(Wrong::default()),
        }
    }

    /// Names with texts. From here on only the names are shown, and of a text only that it is one `${NAME}`.
    pub(crate) fn texts(&self) -> Taken<Vec<(String, String)>> {
        self.entries(Self::text)
    }

    /// The same with texts of templates.
    pub(crate) fn templates(&self) -> Taken<Vec<(String, String)>> {
        self.entries(Self::template)
    }

    fn entries(&self, read: fn(&Self) -> Taken<&str>) -> Taken<Vec<(String, String)>> {
        match &self.content {
            Content::Table(entries) => {
                entries.iter().map(|(name, value)| Ok((name.clone(), read(value)?.to_owned()))).collect()
            }
            _ => Err(Wrong::default()),
        }
    }

    /// The same value, its texts hidden unless they come from the environment as a whole.
    pub(crate) fn masked(mut self) -> Self {
        if let Content::Table(entries) = &mut self.content {
            for (_, value) in entries.iter_mut().filter(|(_, value)| !is_one_reference(&value.shown)) {
                value.shown = "\"********\"".to_owned();
            }
        }
        self.shown = show(&self.content);
        self
    }
}

/// `"${NAME}"` and nothing beside it.
fn is_one_reference(shown: &str) -> bool {
    shown
        .strip_prefix("\"${")
        .and_then(|rest| rest.strip_suffix("}\""))
        .is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

fn show(content: &Content) -> String {
    match content {
        Content::Text(text) => quoted(&without_password(&text.plain)),
        Content::Number(number) => number.to_string(),
        Content::Switch(switch) => switch.to_string(),
        Content::List(parts) => {
            format!("[{}]", parts.iter().map(Value::shown).collect::<Vec<_>>().join(", "))
        }
        Content::Table(entries) if entries.is_empty() => "{}".to_owned(),
        Content::Table(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(name, value)| format!("{} = {}", bare(name), value.shown)).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Content::Other => "(another kind of value)".to_owned(),
    }
}

/// A text as a TOML string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is a JSON string").replace('\x7f', "\\u007f")
}

fn bare(name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain { name.to_owned() } else { quoted(name) }
}

/// A URL without what stands between `://` and `@`, and without what its parameters call a password.
pub(crate) fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.contains('@') {
        // Where the password begins or ends in this is anybody's guess.
        return format!("{scheme}://***");
    }
    let address = match address.rsplit_once('@') {
        Some((_, rest)) => format!("***@{rest}"),
        None => address.to_owned(),
    };
    if query.is_empty() {
        return format!("{scheme}://{address}");
    }
    let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") || name.contains('%') => {
            format!("{name}=***")
        }
        _ => parameter.to_owned(),
    });
    format!("{scheme}://{address}?{}", parameters.collect::<Vec<_>>().join("&"))
}

fn fill(text: &str, lookup: Lookup<'_>) -> Taken<Text> {
    let mut filled = Text::of("");
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            filled.push(before);
            filled.push("${");
            rest = &from[2..];
            continue;
        }
        let Some(end) = from.find('}') else {
            return Err(Wrong("'${' without '}'; write '$${' for the text '${'".to_owned()));
        };
        let name = &from[2..end];
        let value = lookup(name).ok_or_else(|| {
            Wrong(format!(
                "the environment has no variable {name:?}; set it, or write '$${{' for the text '${{'"
            ))
        })?;
        filled.push(before);
        filled.plain.push_str(&value);
        filled.template.push_str(&value.replace('{', "{{").replace('}', "}}"));
        rest = &from[end + 1..];
    }
    filled.push(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_filled_in_and_doubled_dollars_stay() {
        let lookup = |name: &str| (name == "A").then(|| "x${B}".to_owned());
        let fill = |text| super::fill(text, &lookup).map(|text| text.plain);
        assert_eq!(
            fill("1${A}2${A}").unwrap(),
            "1x${B}2x${B}",
            "what came from the environment is not read again"
        );
        assert_eq!(fill("$${A} $A $").unwrap(), "${A} $A $");
        assert!(fill("${B}").unwrap_err().0.contains("no variable \"B\""));
        assert!(fill("${A").is_err());
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        assert_eq!(
            Value::plain("postgres://me:p@ss@host/db", Kind::Text).shown(),
            "\"postgres://***@host/db\""
        );
        for (given, shown) in [
            (
                "postgres:///a?password=p&sslpassword=s&sslmode=require",
                "postgres:///a?password=***&sslpassword=***&sslmode=require",
            ),
            ("postgres:///a?host=db&password=p@ss&sslmode=require", "postgres://***"),
            ("postgres://me:p?a@ss@host/db", "postgres://***"),
            ("https://a.example.com?x=1", "https://a.example.com?x=1"),
        ] {
            assert_eq!(without_password(given), shown);
        }
    }
}
