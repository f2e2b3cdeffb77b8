//! What may be said on the command line.

pub(crate) mod bench;

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand, ValueEnum};
use soloist::{Key, Timestamp};
use soloist_client::{Cursor, IdempotencyKey};

use crate::{
    config::{self, settings, value::Kind},
    exit,
};

/// Start a task once; stream it to everyone.
#[derive(Debug, Parser)]
#[command(name = "soloist", version, after_help = exit::HELP, max_term_width = 100)]
pub(crate) struct Cli {
    /// The server: http://HOST:PORT, https://HOST or unix:PATH
    #[arg(
        long,
        global = true,
        env = "SOLOIST_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8888"
    )]
    pub(crate) url: String,
    /// Print JSON, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Cmd,
}

impl Cli {
    /// What the command line says, and whether `--url` stands on it. The variable names the server that is worked with,
    /// which nobody wants to put under load by a command that does not name it.
    pub(crate) fn read() -> (Self, bool) {
        let matches = <Self as clap::CommandFactory>::command().get_matches();
        let is_url_given = matches.value_source("url") == Some(clap::parser::ValueSource::CommandLine);
        (Self::from_arg_matches(&matches).unwrap_or_else(|e| e.exit()), is_url_given)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cmd {
    /// Run the server
    Serve(Serve),
    /// Run a command here, once: of all who run the same id at one time one does, and the others watch
    Run(Run),
    /// Create a task
    Create(Create),
    /// Start a task; where it runs already, say so (exit code 0 both times)
    Start(Start),
    /// Print a task's events as they come, until it ends; resumes by itself over cuts and restarts
    Watch(Watch),
    /// Cancel a task
    Cancel(Cancel),
    /// Send the work of a task a signal
    Signal(Signal),
    /// Show all that is on record about a task
    Show(Show),
    /// List tasks, newest first
    List(List),
    /// Start again what failed lately
    RetryFailed(RetryFailed),
    /// Delete finished tasks with their events, once they are old
    Cleanup(Cleanup),
    /// Copy the store to a file, also while servers use it
    Backup(Backup),
    /// Measure a server: how many starts, how fast, at what cost
    Bench(bench::Bench),
    /// Look at the server's configuration
    #[command(subcommand)]
    Config(ConfigCmd),
    /// Print the description of the HTTP API (OpenAPI 3.1)
    Openapi,
    /// Print what makes a shell complete the command line of `soloist`
    #[command(
        after_help = "bash:  soloist completions bash > ~/.local/share/bash-completion/completions/soloist\n\
                            zsh:   soloist completions zsh > \"${fpath[1]}/_soloist\"\n\
                            fish:  soloist completions fish > ~/.config/fish/completions/soloist.fish"
    )]
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Also serve the demo models, under the app "demo"
    #[arg(long)]
    pub(crate) demo: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The task has the key cli/run/ID, and whoever is connected to a server on the same store can watch \
it. The command gets the environment, the directory and the standard input of this call (none where \
that is a terminal). An interrupt cancels the run where the command runs here, and leaves it alone \
where it is only watched. The exit code says how the run ended; --attached-exit-code tells who ran \
it.")]
pub(crate) struct Run {
    /// What it is about: of calls with the same id one runs its command at a time [default: an id of its own]
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Whether the command is run again where a run of that id has ended
    #[arg(long, value_enum, default_value_t = Policy::Restart)]
    pub(crate) policy: Policy,
    /// Exit with this code where the command was not run by this call, but is (or was) by another
    #[arg(long, value_name = "CODE")]
    pub(crate) attached_exit_code: Option<u8>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Cleanup {
    /// Only tasks whose last run ended more than this many hours ago
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub(crate) hours: u32,
    /// Only of this app
    #[arg(long)]
    pub(crate) app: Option<String>,
    /// Only of this model
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Only tasks that ended so [default: however they ended]
    #[arg(long, value_parser = ENDINGS.map(soloist::Status::as_str))]
    pub(crate) status: Option<String>,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each task gets a new run, as `soloist start` gives it. One that is active by the time is left alone, and \
so are the tasks of the app cli, which only `soloist run` starts. What goes wrong with one task does not \
stop the others; it is said, and the exit code is 6 at the end.")]
pub(crate) struct RetryFailed {
    /// Only tasks whose last run failed less than this many hours ago
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub(crate) max_age_hours: u32,
    /// Only of this app
    #[arg(long)]
    pub(crate) app: Option<String>,
    /// Only of this model
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Say what would be started, and start nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How a task ends.
pub(crate) const ENDINGS: [soloist::Status; 3] =
    [soloist::Status::Completed, soloist::Status::Failed, soloist::Status::Cancelled];

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The copy; it must not be there yet
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Where the store is, for the commands that use it themselves.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// The configuration file that names the store [default: soloist.toml, where it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The store itself, as in the configuration [default: sqlite://soloist.db]
    #[arg(long, value_name = "TEXT")]
    pub(crate) store: Option<String>,
}

impl Policy {
    /// As the library has it.
    pub(crate) fn policy(self) -> soloist::Policy {
        match self {
            Self::Restart => soloist::Policy::Restart,
            Self::Once => soloist::Policy::Once,
        }
    }
}

impl StoreArgs {
    /// The configuration that they name.
    pub(crate) fn load(self) -> Result<config::Config, config::ConfigError> {
        let store = self.store.map(|store| ("store", store));
        config::of_process(self.config, store.into_iter().collect()).map(|loaded| loaded.config)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCmd {
    /// Check the configuration and show what counts and where it came from, without secrets
    Check(ConfigArgs),
}

/// `--config`, and one flag for each key of the table of settings.
#[derive(Debug)]
pub(crate) struct ConfigArgs {
    pub(crate) file: Option<PathBuf>,
    pub(crate) flags: Vec<(&'static str, String)>,
}

impl Args for ConfigArgs {
    fn augment_args(command: Command) -> Command {
        let file = clap::Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!("The configuration file [default: {}, where it is there]", config::FILE));
        settings::SERVER.iter().fold(command.arg(file), |command, setting| {
            let default = setting.default.of(&config::Config::default()).unwrap_or_default();
            command.arg(
                clap::Arg::new(setting.key)
                    .long(config::flag_of(setting.key))
                    .value_name(match setting.kind {
                        Kind::Number => "NUMBER",
                        Kind::Switch => "BOOL",
                        Kind::List => "LIST",
                        Kind::Text | Kind::Texts | Kind::Numbers | Kind::Times => "TEXT",
                    })
                    .hide_short_help(setting.key != "listen" && setting.key != "store")
                    .help(format!("{} [default: {default}]", setting.about)),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ConfigArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flag = |key| matches.get_one::<String>(key).map(|text| (key, text.clone()));
        Ok(Self {
            file: matches.get_one("config").cloned(),
            flags: settings::SERVER.iter().filter_map(|setting| flag(setting.key)).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// app/model/id, or app/model where the server is to choose the id
    #[arg(value_name = "KEY|APP/MODEL", value_parser = name)]
    pub(crate) name: Name,
    /// What the task is given: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", default_value = "{}", allow_hyphen_values = true)]
    pub(crate) input: String,
    /// Start it at once
    #[arg(long)]
    pub(crate) start: bool,
    /// Try again up to so many times what fails [default: what its model says]
    #[arg(long, value_name = "N")]
    pub(crate) max_retries: Option<u32>,
    /// Stop each attempt after this time [default: what its model says]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: Option<u32>,
    /// Stop a run with all its attempts after this time [default: what its model says]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) deadline: Option<u32>,
    /// Start it, and run it at this time at the earliest, such as 2026-11-23T12:00:00Z (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) run_at: Option<Timestamp>,
    #[command(flatten)]
    pub(crate) idempotency: Idempotency,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    #[arg(value_name = "KEY")]
    pub(crate) key: Key,
    /// What becomes of a task that was started before
    #[arg(long, value_enum, default_value_t = StartPolicy::Restart)]
    pub(crate) policy: StartPolicy,
    #[command(flatten)]
    pub(crate) idempotency: Idempotency,
}

#[derive(Debug, Args)]
pub(crate) struct Idempotency {
    /// Makes copies of this command one request: whoever repeats it with the same key gets the first answer [default:
    /// a new key each time, so that a lost answer is asked for again]
    #[arg(id = "idempotency_key", long = "idempotency-key", value_name = "TEXT", value_parser = |text: &str| IdempotencyKey::new(text))]
    pub(crate) key: Option<IdempotencyKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// A finished task is started again
    Restart,
    /// A finished task stays finished
    Once,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[arg(value_name = "KEY")]
    pub(crate) key: Key,
    /// Only events after this one: its seq or, as --json prints it, its cursor, such as 12-3 [default: from the
    /// beginning of the current run]
    #[arg(long, value_name = "SEQ|CURSOR")]
    pub(crate) from: Option<Cursor>,
    /// Stay for the next runs too
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[arg(value_name = "KEY")]
    pub(crate) key: Key,
    /// Why, for the record
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only this run; a newer one is left alone
    #[arg(long)]
    pub(crate) run: Option<u64>,
    /// Wait for the end, up to this many seconds; exit code 6 where it ended otherwise
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60", require_equals = true)]
    pub(crate) wait: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Signal {
    #[arg(value_name = "KEY")]
    pub(crate) key: Key,
    /// The name that the work waits for
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// What it carries: JSON, @FILE, or - for standard input
    #[arg(value_name = "JSON|@FILE|-", default_value = "null", allow_hyphen_values = true)]
    pub(crate) data: String,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[arg(value_name = "KEY")]
    pub(crate) key: Key,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only of this app
    #[arg(long)]
    pub(crate) app: Option<String>,
    /// Only of this model
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Only in this status
    #[arg(long, value_parser = soloist::Status::ALL.map(soloist::Status::as_str))]
    pub(crate) status: Option<String>,
    /// Only of this owner
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// At most so many
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// Where the page before ended
    #[arg(long)]
    pub(crate) cursor: Option<String>,
}

/// What a start over HTTP may ask for. `soloist run` is the run itself, and has the first two alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StartPolicy {
    /// A finished task is started again
    Restart,
    /// A finished task stays finished
    Once,
    /// Of an active task one more run begins when this one has ended, however many ask for it
    Rerun,
    /// The active run is cancelled, and the next one begins when it has ended
    Replace,
}

/// A task, or a model whose next id the store chooses.
#[derive(Debug, Clone)]
pub(crate) enum Name {
    Task(Key),
    Model(soloist::ModelKey),
}

fn name(text: &str) -> Result<Name, soloist::Error> {
    match text.split('/').collect::<Vec<_>>()[..] {
        [app, model] => soloist::ModelKey::new(app, model).map(Name::Model),
        _ => text.parse().map(Name::Task),
    }
}

fn time(text: &str) -> Result<Timestamp, &'static str> {
    text.parse().map_err(|_| "a time is written as in RFC 3339, such as 2026-11-23T12:00:00Z")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        super::Cli::command().debug_assert();
    }
}
