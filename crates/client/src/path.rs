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

    use proptest::prelude::*;

    fn config() -> ProptestConfig {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }

    /// Any text, and what would like to be more than one segment.
    fn part() -> impl Strategy<Value = String> {
        let nasty =
            vec!["", ".", "..", "%2e", "%2E.", "%2F", "\\", "?", "#", "a b", "+", "&x=", "\r\n", "\0", "%"];
        prop_oneof![2 => "[A-Za-z0-9._~-]{1,8}", 1 => "\\PC{0,6}", 1 => prop::sample::select(nasty).prop_map(str::to_owned)]
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn whatever_is_named_is_what_a_server_reads_in_its_segment(
            key in prop::array::uniform3(part()), rest in prop::collection::vec(part(), 0..3),
            values in prop::collection::vec(("[a-z]{1,4}", prop::option::of(part())), 0..3),
        ) {
            let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
            let all: Vec<&str> = key.iter().map(String::as_str).chain(rest.iter().copied()).collect();
            let is_fine = !key.iter().any(|part| part.contains('/')) && !all.iter().any(|part| ["", ".", ".."].contains(part));
            let path = of_task("tasks", &key.join("/"), &rest);
            prop_assert_eq!(path.is_ok(), is_fine, "{:?}", path);
            let Ok(path) = path else { return Ok(()) };
            let named: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            let sent = query(&path, &named);
            prop_assert!(sent.bytes().all(|b| b.is_ascii_graphic()), "{}", sent);
            // As whatever stands between reads it.
            let url = reqwest::Url::parse(&format!("http://h{sent}")).unwrap();
            prop_assert!(url.host_str() == Some("h") && url.fragment().is_none(), "{}", url);
            let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
            let segments: Vec<_> = url.path_segments().unwrap().map(decode).collect();
            prop_assert_eq!(&segments[0], "tasks");
            prop_assert_eq!(&segments[1..], &all[..]);
            let pairs: Vec<_> = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
            let wanted: Vec<_> = values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            prop_assert_eq!(pairs, wanted);
        }
    }
}
