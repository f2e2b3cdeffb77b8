//! Paths and queries.
//!
//! Decides: that what a caller names stays one segment of a path or one value of a query, whatever it holds.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::Error;

const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One segment; a dot segment would be resolved away on its way to the server.
fn segment(text: &str) -> Result<String, Error> {
    match text {
        "" | "." | ".." => Err(Error::Invalid(format!("{text:?} cannot stand in a path"))),
        text => Ok(utf8_percent_encode(text, KEPT).to_string()),
    }
}

/// `/{prefix}/{app}/{model}[/{id}]{rest}`, from a name of so many parts.
fn named(prefix: &str, name: &str, parts: usize, shape: &str, rest: &[&str]) -> Result<String, Error> {
    if name.split('/').count() != parts {
        return Err(Error::Invalid(format!("{name:?} is not {shape}")));
    }
    let mut path = format!("/{prefix}");
    for part in name.split('/').chain(rest.iter().copied()) {
        path.push('/');
        path.push_str(&segment(part)?);
    }
    Ok(path)
}

/// The path of a task.
pub(crate) fn of_task(prefix: &str, key: &str, rest: &[&str]) -> Result<String, Error> {
    named(prefix, key, 3, "a key app/model/id", rest)
}

/// The path of a model.
pub(crate) fn of_model(prefix: &str, model: &str) -> Result<String, Error> {
    named(prefix, model, 2, "a model app/model", &[])
}

/// A path with a query; what is not set is left out.
pub(crate) fn query(path: &str, values: &[(&str, Option<String>)]) -> String {
    let values: Vec<_> = values
        .iter()
        .filter_map(|(name, value)| {
            value.as_ref().map(|v| format!("{name}={}", utf8_percent_encode(v, KEPT)))
        })
        .collect();
    if values.is_empty() { path.to_owned() } else { format!("{path}?{}", values.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_where_it_was_put() {
        assert_eq!(
            of_task("tasks", "a/B/1~x", &["signals", "go on/?"]).unwrap(),
            "/tasks/a/B/1~x/signals/go%20on%2F%3F"
        );
        for bad in ["a/B", "a/B/..", "a//1", "a/B/1/2", "../B/1", ""] {
            assert!(of_task("tasks", bad, &[]).is_err(), "{bad}");
        }
        assert!(of_task("tasks", "a/B/1", &["signals", ".."]).is_err());
        assert_eq!(query("/tasks", &[("app", None), ("cursor", Some("a&b".into()))]), "/tasks?cursor=a%26b");
        assert_eq!(query("/tasks", &[("app", None)]), "/tasks");
    }
}
