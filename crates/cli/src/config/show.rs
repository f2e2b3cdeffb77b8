//! The configuration as `config check` shows it: TOML, each key with where it came from, no secrets.

use std::fmt::Write as _;

use super::{Loaded, Shown, value::quoted};

/// The configuration as TOML that would be read back as the same.
pub(crate) fn as_toml(loaded: &Loaded) -> String {
    let mut text = String::new();
    lines(&mut text, &loaded.server);
    for model in &loaded.models {
        text.push_str("\n[[model]]\n");
        lines(&mut text, model);
    }
    text
}

fn lines(text: &mut String, shown: &[Shown]) {
    let width = shown.iter().map(|s| s.key.len() + 3 + s.value.len()).filter(|w| *w <= 60).max().unwrap_or(0);
    for Shown { key, value, origin } in shown {
        let entry = format!("{key} = {value}");
        writeln!(text, "{entry:width$}  # {origin}").expect("a String takes everything");
    }
}

/// The same for machines: `{"listen": {"value": "...", "from": "..."}, ..., "model": [...]}`; each value is the TOML
/// text that `config check` shows.
pub(crate) fn as_json(loaded: &Loaded) -> String {
    let object = |shown: &[Shown]| {
        let entries: Vec<_> = shown
            .iter()
            .map(|s| {
                format!(
                    "{}:{{\"value\":{},\"from\":{}}}",
                    quoted(s.key),
                    quoted(&s.value),
                    quoted(&s.origin.to_string())
                )
            })
            .collect();
        entries.join(",")
    };
    let models: Vec<_> = loaded.models.iter().map(|model| format!("{{{}}}", object(model))).collect();
    format!("{{{},\"model\":[{}]}}", object(&loaded.server), models.join(","))
}
