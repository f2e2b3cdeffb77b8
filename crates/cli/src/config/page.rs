//! `docs/configuration.md`, written from the table of settings.
//!
//! A test holds the committed page to this; `UPDATE_DOCS=1 cargo test -p soloist-cli configuration_page` writes it anew.

use std::fmt::Write as _;

use super::{
    Config, Model, Runner, flag_of, models,
    settings::{NotYet, Preset, SERVER, SERVER_NOT_YET, Setting},
    value::Kind,
    variable_of,
};

const HEAD: &str = r#"# Configuration

<!-- Written from crates/cli/src/config/settings.rs by a test; do not edit. To write it anew:
     UPDATE_DOCS=1 cargo test -p soloist-cli configuration_page -->

`soloist serve` reads `soloist.toml` in the directory where it is started (another file: `--config FILE` or
`SOLOIST_CONFIG`), then variables of the environment, then flags; the later one wins. Without any of them it runs on the
defaults. `soloist config check` takes the same flags, checks everything and shows what counts and where it came from,
without secrets.

```toml
listen = "127.0.0.1:8888"
store = "sqlite:///var/lib/soloist/soloist.db"

[[model]]
app = "media"
model = "Transcode"
runner = "exec"
command = ["ffmpeg", "-i", "{input.source}", "out.mp4"]
env = { API_TOKEN = "${API_TOKEN}" }
max_concurrent = 2
```

- A wrong value, an unknown key or a key of something that is not supported yet stops the start, with one line that
  names the key, the value and what is allowed. Nothing is accepted and ignored.
- `${NAME}` in a text of the file is filled in from the environment; it is an error where the environment has no such
  variable. `$${` stands for the text `${`. `config check` and errors show `${NAME}`, never what it stands for.
- In variables and flags, lists are written with commas: `SOLOIST_ALLOWED_HOSTS=a.example.com,b.example.com`.
- A variable `SOLOIST_...` that is no key is an error, too. `SOLOIST_URL` and `SOLOIST_CONFIG` belong to the command
  line and `SOLOIST_TASK_*` to exec work; they are no configuration.
- Without authentication (which is not supported yet) the server listens on loopback addresses and Unix sockets only,
  unless `allow_anonymous = true` says that nobody reaches it who may not do everything.
"#;

/// The whole page.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n## The server\n");
    for setting in SERVER {
        entry(&mut page, setting, &Config::default());
        writeln!(page, "- variable and flag: `{}`, `--{}`", variable_of(setting.key), flag_of(setting.key))
            .expect("a String");
    }
    page.push_str(
        "\n## Models: `[[model]]`\n\nEach `[[model]]` adds a kind of task. They stand in the file only.\n",
    );
    let groups = [
        (models::NAMES, ""),
        (models::EXEC, "\nThese are keys of models whose runner is \"exec\":\n"),
        (models::HTTP, "\nThese are keys of models whose runner is \"http\":\n"),
        (models::RUNS, "\nThese are keys of all models again:\n"),
    ];
    for (settings, about) in groups {
        page.push_str(about);
        for setting in settings {
            entry(&mut page, setting, &Model::of(Runner::Exec));
        }
    }
    page.push_str("\n## Not supported yet\n\nThese keys are refused by name.\n\n");
    page.push_str("| key | because |\n| --- | --- |\n");
    not_yet(&mut page, SERVER_NOT_YET);
    page
}

fn entry<T>(page: &mut String, setting: &Setting<T>, defaults: &T) {
    let default = match (&setting.default, setting.default.of(defaults)) {
        (Preset::Needed, _) => "must be given".to_owned(),
        (_, Some(text)) => format!("default: `{text}`"),
        (_, None) => "not set by default".to_owned(),
    };
    let kind = match setting.kind {
        Kind::Text => "text",
        Kind::Number => "number",
        Kind::Switch => "switch",
        Kind::List => "list of texts",
        Kind::Texts => "table of texts",
        Kind::Numbers => "list of numbers",
        Kind::Times => "table of times",
    };
    write!(
        page,
        "\n### `{}`\n\n{}\n\n- {kind}; {default}\n- allowed: {}\n",
        setting.key, setting.about, setting.allowed
    )
    .expect("a String takes everything");
}

fn not_yet(page: &mut String, keys: &[NotYet]) {
    for NotYet { key, what } in keys {
        writeln!(page, "| `{key}` | {what} not supported yet |").expect("a String takes everything");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_configuration_page_says_what_the_code_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, super::page()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == super::page(),
            "docs/configuration.md is old; write it anew with UPDATE_DOCS=1 cargo test -p soloist-cli configuration_page"
        );
    }
}
