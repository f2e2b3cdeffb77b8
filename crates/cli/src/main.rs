//! `soloist`: the server and its command line.
//!
//! Every command but `serve`, `run`, `backup` and `bench` reaches tasks through `soloist-client`, and all but the first three
//! through the public HTTP API.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod config;
mod exit;
mod render;
mod store;

use std::process::ExitCode;

use soloist_client::Client;

use args::{Cli, Cmd, ConfigCmd};
use exit::{Exit, Stop};
use render::Out;

fn main() -> ExitCode {
    // Before anything else: this program is also what watches over commands, under another name.
    soloist_runners::guard::enter_if_asked();
    let (cli, is_url_given) = Cli::read();
    let out = Out::new(cli.json);
    match run(cli, is_url_given, &out) {
        Ok(code) => code,
        Err(stop) => {
            out.error(&stop);
            stop.exit.into()
        }
    }
}

fn run(cli: Cli, is_url_given: bool, out: &Out) -> Result<ExitCode, Stop> {
    let exit = match cli.command {
        Cmd::Run(args) => return commands::run::run(args, out),
        Cmd::Serve(args) => commands::serve::serve(args, out),
        Cmd::Config(ConfigCmd::Check(args)) => commands::config::check(args, out),
        Cmd::Backup(args) => commands::backup::backup(args, out),
        Cmd::Bench(args) => commands::bench::bench(args, is_url_given.then_some(&*cli.url), out),
        Cmd::Openapi => commands::openapi::openapi(out),
        Cmd::Completions(args) => commands::completions::completions(args.shell, out),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| Stop::new(Exit::Failed, format!("cannot start: {e}")))?;
            runtime.block_on(ask(command, &Client::new(&cli.url)?, out))
        }
    };
    exit.map(ExitCode::from)
}

/// The commands that ask a server.
async fn ask(command: Cmd, client: &Client, out: &Out) -> Result<Exit, Stop> {
    match command {
        Cmd::Create(args) => commands::create::create(args, client, out).await,
        Cmd::Start(args) => commands::start::start(args, client, out).await,
        Cmd::Watch(args) => commands::watch::watch(args, client, out).await,
        Cmd::Cancel(args) => commands::cancel::cancel(args, client, out).await,
        Cmd::Signal(args) => commands::signal::signal(args, client, out).await,
        Cmd::Show(args) => commands::show::show(args, client, out).await,
        Cmd::List(args) => commands::list::list(args, client, out).await,
        Cmd::RetryFailed(args) => commands::retry_failed::retry_failed(args, client, out).await,
        Cmd::Cleanup(args) => commands::cleanup::cleanup(args, client, out).await,
        Cmd::Serve(_)
        | Cmd::Run(_)
        | Cmd::Backup(_)
        | Cmd::Bench(_)
        | Cmd::Config(_)
        | Cmd::Openapi
        | Cmd::Completions(_) => {
            unreachable!("these ask no server")
        }
    }
}
