//! What `serve` was told: a file, then the environment, then flags; the later one wins.
//!
//! Decides: which source counts for each key of [`settings`], and that nothing wrong passes: a key that is not known,
//! not there yet, or a value that is not allowed stops the start with one line that says what to write instead.
//! Never shows what came from the environment through `${NAME}`.

pub(crate) mod models;
#[cfg(test)]
mod page;
#[cfg(test)]
mod properties;
pub(crate) mod settings;
pub(crate) mod show;
pub(crate) mod types;
pub(crate) mod value;

use std::{collections::BTreeMap, ffi::OsStr, path::PathBuf, time::Duration};

use soloist::{ModelOptions, OnTimeout, Retention, RunTerms, limits, store::Durability};
use soloist_runners::{OptionError, exec::ExecOptions, http::HttpOptions};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use settings::{NotYet, SERVER, SERVER_NOT_YET, Setting};
use types::{Listen, LogFormat, PgUrl, StoreUrl};
use value::{Lookup, Origin, Value, Wrong, quoted};

/// The file that is read where it is there and nobody names another.
pub(crate) const FILE: &str = "soloist.toml";
/// The variable that names another file.
pub(crate) const FILE_VARIABLE: &str = "SOLOIST_CONFIG";
/// What the variables of the configuration begin with.
const PREFIX: &str = "SOLOIST_";
/// Variables with that prefix that belong to something else: the command line, and exec work.
const FOREIGN: [&str; 2] = ["SOLOIST_URL", FILE_VARIABLE];
const FOREIGN_PREFIX: &str = "SOLOIST_TASK_";

/// Everything that a server is told. The defaults stand here and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) allow_anonymous: bool,
    pub(crate) listen: Listen,
    pub(crate) store: StoreUrl,
    pub(crate) listen_url: Option<PgUrl>,
    pub(crate) durability: Durability,
    pub(crate) lease: Duration,
    pub(crate) linger: Duration,
    pub(crate) shutdown_grace: Duration,
    pub(crate) autostart: bool,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) models: Vec<Model>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow_anonymous: false,
            listen: Listen::Tcp(([127, 0, 0, 1], 8888).into()),
            store: StoreUrl::Sqlite("soloist.db".into()),
            listen_url: None,
            durability: Durability::Full,
            lease: limits::LEASE,
            linger: limits::LINGER,
            shutdown_grace: limits::SHUTDOWN_GRACE,
            autostart: true,
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            models: Vec::new(),
        }
    }
}

/// What executes a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    Exec,
    Http,
}

impl Runner {
    const ALL: [Self; 2] = [Self::Exec, Self::Http];

    /// The word of the configuration.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Http => "http",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runner| runner.as_str() == word)
    }
}

/// A model of the configuration. Its `Debug` form is not derived: its options may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) app: String,
    pub(crate) model: String,
    pub(crate) runner: Runner,
    /// Counts where a command executes it.
    pub(crate) exec: ExecOptions,
    /// Counts where an endpoint executes it.
    pub(crate) http: HttpOptions,
    pub(crate) max_concurrent: usize,
    pub(crate) max_concurrent_total: Option<u32>,
    pub(crate) terms: RunTerms,
    pub(crate) retry_delay: Duration,
    pub(crate) on_timeout: OnTimeout,
    pub(crate) retention: Retention,
}

impl Model {
    /// The defaults of a model that this executes.
    pub(crate) fn of(runner: Runner) -> Self {
        Self {
            app: String::new(),
            model: String::new(),
            runner,
            exec: ExecOptions::default(),
            http: HttpOptions::default(),
            max_concurrent: match runner {
                Runner::Exec => limits::EXEC_MAX_CONCURRENT,
                Runner::Http => limits::HTTP_MAX_CONCURRENT,
            },
            max_concurrent_total: None,
            terms: RunTerms::default(),
            retry_delay: limits::RETRY_DELAY,
            on_timeout: OnTimeout::default(),
            retention: Retention::default(),
        }
    }

    /// Whether what executes it can be made.
    fn validate(&self) -> Result<(), OptionError> {
        match self.runner {
            Runner::Exec => self.exec.validate(),
            Runner::Http => self.http.validate(),
        }
    }

    /// How its runs are run.
    pub(crate) fn terms(&self) -> ModelOptions {
        ModelOptions {
            max_concurrent: self.max_concurrent,
            max_concurrent_total: self.max_concurrent_total,
            terms: self.terms,
            retry_delay: self.retry_delay,
            on_timeout: self.on_timeout,
            retention: self.retention,
        }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({}/{})", self.app, self.model)
    }
}

/// What is wrong with a configuration: one line that names the key, the value and what is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

/// A configuration, and what may be shown of where it came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) server: Vec<Shown>,
    pub(crate) models: Vec<Vec<Shown>>,
}

/// One key as it may be shown.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) key: &'static str,
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

/// Where a configuration is read from.
pub(crate) struct Sources<'a> {
    /// The name and the text of the file.
    pub(crate) file: Option<(String, String)>,
    /// Variables whose names begin with [`PREFIX`].
    pub(crate) variables: Vec<(String, String)>,
    /// Keys and the texts of their flags.
    pub(crate) flags: Vec<(&'static str, String)>,
    /// What `${NAME}` is filled in from.
    pub(crate) lookup: Lookup<'a>,
}

/// Reads the configuration of this process.
pub(crate) fn of_process(
    file: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
) -> Result<Loaded, ConfigError> {
    let lookup = |name: &str| std::env::var(name).ok();
    let named =
        file.or_else(|| std::env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from));
    let path = named.clone().unwrap_or_else(|| FILE.into());
    let file = match std::fs::read_to_string(&path) {
        Ok(text) => Some((path.display().to_string(), text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && named.is_none() => None,
        Err(e) => return Err(ConfigError(format!("cannot read the configuration {}: {e}", path.display()))),
    };
    load(Sources { file, variables: variables()?, flags, lookup: &lookup })
}

fn variables() -> Result<Vec<(String, String)>, ConfigError> {
    let ours = |name: &OsStr| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    let text = |text: std::ffi::OsString| text.into_string();
    let mut variables = std::env::vars_os()
        .filter(|(name, _)| ours(name))
        .map(|(name, value)| match (text(name.clone()), text(value)) {
            (Ok(name), Ok(value)) => Ok((name, value)),
            _ => Err(ConfigError(format!("the variable {} is not UTF-8", name.display()))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    variables.sort();
    Ok(variables)
}

/// Puts the sources together.
pub(crate) fn load(sources: Sources<'_>) -> Result<Loaded, ConfigError> {
    let mut given: Given = BTreeMap::new();
    let mut loaded = Loaded { config: Config::default(), server: Vec::new(), models: Vec::new() };
    if let Some((name, text)) = &sources.file {
        read_file(name, text, sources.lookup, &mut given, &mut loaded)?;
    }
    for (name, text) in &sources.variables {
        if FOREIGN.contains(&name.as_str()) || name.starts_with(FOREIGN_PREFIX) {
            continue;
        }
        let origin = Origin::Variable(name.clone());
        let key = name[PREFIX.len()..].to_ascii_lowercase();
        let setting = find(&[SERVER], SERVER_NOT_YET, &key, &origin, variable_of)?;
        given.insert(setting.key, (Value::plain(text, setting.kind), origin));
    }
    for (key, text) in &sources.flags {
        let origin = Origin::Flag(flag_of(key));
        let setting = find(&[SERVER], SERVER_NOT_YET, key, &origin, flag_of)?;
        given.insert(setting.key, (Value::plain(text, setting.kind), origin));
    }
    loaded.server = settle(&[SERVER], &mut loaded.config, &given)?;
    Ok(loaded)
}

/// The name of a key's variable.
pub(crate) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

/// The name of a key's flag, without its dashes.
pub(crate) fn flag_of(key: &str) -> String {
    key.replace('_', "-")
}

/// The values that were given, by key, each with the last source that gave it.
type Given = BTreeMap<&'static str, (Value, Origin)>;

/// Settings, group by group.
type Groups<T> = &'static [&'static [Setting<T>]];

fn each<T>(groups: Groups<T>) -> impl Iterator<Item = &'static Setting<T>> {
    groups.iter().copied().flatten()
}

fn read_file(
    name: &str,
    text: &str,
    lookup: Lookup<'_>,
    given: &mut Given,
    loaded: &mut Loaded,
) -> Result<(), ConfigError> {
    let at = |place: usize| Origin::File { name: name.to_owned(), line: line_of(text, place) };
    let table = DeTable::parse(text).map_err(|e| {
        let place = e.span().map_or(0, |span| span.start);
        ConfigError(format!("{}: {}", at(place), e.message()))
    })?;
    let mut seen: BTreeMap<(String, String), Origin> = BTreeMap::new();
    for (key, value) in in_order(table.get_ref()) {
        if key.get_ref() == "model" {
            for (table, place) in model_tables(value, &at(value.span().start))? {
                let (model, shown) = read_model(table, at(place), &at, lookup)?;
                let name = (model.app.clone(), model.model.clone());
                if let Some(first) = seen.insert(name, at(place)) {
                    return Err(ConfigError(format!(
                        "{}: the model {}/{} stands in {first} already; give one of them another name",
                        at(place),
                        model.app,
                        model.model
                    )));
                }
                loaded.config.models.push(model);
                loaded.models.push(shown);
            }
            continue;
        }
        read_entry(&[SERVER], SERVER_NOT_YET, key, value, &at, lookup, given)?;
    }
    Ok(())
}

fn read_model(
    table: &DeTable<'_>,
    place: Origin,
    at: &dyn Fn(usize) -> Origin,
    lookup: Lookup<'_>,
) -> Result<(Model, Vec<Shown>), ConfigError> {
    let mut given: Given = BTreeMap::new();
    for (key, value) in in_order(table) {
        read_entry(models::ALL, &[], key, value, at, lookup, &mut given)?;
    }
    let named = given.get("runner").and_then(|(value, _)| Runner::parse(value.text().ok()?));
    let runner = named.unwrap_or(Runner::Exec);
    let settings = models::of(runner);
    let mut model = Model::of(runner);
    let shown = settle(settings, &mut model, &given)?;
    let mut needed = each(settings).filter(|s| matches!(s.default, settings::Preset::Needed));
    if let Some(missing) = needed.find(|setting| !given.contains_key(setting.key)) {
        return Err(ConfigError(format!(
            "{place}: this [[model]] has no {}; allowed is {}",
            missing.key, missing.allowed
        )));
    }
    if let Some((key, (_, origin))) = given.iter().find(|(key, _)| each(settings).all(|s| s.key != **key)) {
        return Err(ConfigError(format!(
            "{origin}: {key}: the runner {} has no such key; take it out, or name another runner",
            quoted(runner.as_str())
        )));
    }
    model.validate().map_err(|e| ConfigError(format!("{place}: {e}")))?;
    Ok((model, shown))
}

fn read_entry<T>(
    settings: Groups<T>,
    not_yet: &[NotYet],
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    at: &dyn Fn(usize) -> Origin,
    lookup: Lookup<'_>,
    given: &mut Given,
) -> Result<(), ConfigError> {
    let origin = at(key.span().start);
    let setting = find(settings, not_yet, key.get_ref(), &origin, str::to_owned)?;
    let value = Value::from_toml(value, lookup)
        .map_err(|Wrong(why)| ConfigError(format!("{origin}: {}: {why}", setting.key)))?;
    given.insert(setting.key, (value, origin));
    Ok(())
}

/// The `[[model]]` tables with the place where each begins.
fn model_tables<'a, 'i>(
    value: &'a Spanned<DeValue<'i>>,
    origin: &Origin,
) -> Result<Vec<(&'a DeTable<'i>, usize)>, ConfigError> {
    let wrong = || ConfigError(format!("{origin}: each model is a table of its own, begun by [[model]]"));
    let DeValue::Array(tables) = value.get_ref() else { return Err(wrong()) };
    tables
        .iter()
        .map(|table| match table.get_ref() {
            DeValue::Table(inner) => Ok((inner, table.span().start)),
            _ => Err(wrong()),
        })
        .collect()
}

/// The setting of a key, or why there is none.
fn find<T>(
    settings: Groups<T>,
    not_yet: &[NotYet],
    key: &str,
    origin: &Origin,
    spell: impl Fn(&str) -> String,
) -> Result<&'static Setting<T>, ConfigError> {
    if let Some(setting) = each(settings).find(|setting| setting.key == key) {
        return Ok(setting);
    }
    if let Some(later) = not_yet.iter().find(|later| later.key == key) {
        return Err(ConfigError(format!(
            "{origin}: {}: {} not supported yet; take it out",
            spell(later.key),
            later.what
        )));
    }
    let near = each(settings)
        .map(|setting| (strsim::damerau_levenshtein(setting.key, key), setting.key))
        .min()
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3));
    let next = match near {
        Some((_, known)) => format!("did you mean {}?", spell(known)),
        None => format!(
            "known are {}",
            each(settings).map(|setting| spell(setting.key)).collect::<Vec<_>>().join(", ")
        ),
    };
    Err(ConfigError(format!("{origin}: unknown key {}; {next}", quoted(&spell(key)))))
}

/// Checks what was given, in the order of the table, and tells what counts.
fn settle<T>(settings: Groups<T>, target: &mut T, given: &Given) -> Result<Vec<Shown>, ConfigError> {
    let mut shown = Vec::new();
    for setting in each(settings) {
        let key = setting.key;
        let Some((value, origin)) = given.get(key) else {
            if let Some(value) = setting.default.of(target) {
                shown.push(Shown { key, value, origin: Origin::Default });
            }
            continue;
        };
        let value = match setting.kind {
            value::Kind::Texts => value.clone().masked(),
            _ => value.clone(),
        };
        (setting.set)(target, &value).map_err(|Wrong(why)| {
            let why = if why.is_empty() { why } else { format!("{why}; ") };
            ConfigError(format!(
                "{origin}: {key} = {} is refused: {why}allowed is {}",
                value.shown(),
                setting.allowed
            ))
        })?;
        shown.push(Shown { key, value: value.shown().to_owned(), origin: origin.clone() });
    }
    Ok(shown)
}

/// The entries of a table as they stand in the file.
fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn line_of(text: &str, place: usize) -> usize {
    text.bytes().take(place).filter(|b| *b == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
