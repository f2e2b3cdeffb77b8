//! `soloist serve`
//!
//! Decides: in which order a server comes up and goes down. Up: the configuration, the guard of the commands (before
//! this process has threads), the listener (a taken port costs nothing), the store, the coordinator (which ends what
//! a dead process left), and only then an answer to anybody. Down: no new starts, the grace for what runs, then the
//! viewers and the requests under way.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::Serialize;
use soloist::{Coordinator, ModelKey, lease::OnLeaseLost, limits, store::Durability};
use soloist_runners::{exec::ExecRunner, guard::Guard, http::HttpRunner};
use soloist_server::{Autostart, Exposure, Ids, Listener, ServerOptions};
use tracing_subscriber::EnvFilter;

use super::stopping::{Owner, Stopping};
use crate::{
    args::Serve,
    config::{Config, Runner, of_process, types::LogFormat},
    exit::{Exit, Stop},
    render::Out,
    store,
};

pub(crate) fn serve(args: Serve, out: &Out) -> Result<Exit, Stop> {
    let config = of_process(args.config.file, args.config.flags)?.config;
    if args.demo && !config.listen.is_local() {
        let why = "the demo models fetch any URL and run as long as they are told to: serve them where only this machine \
                   reaches them, on a loopback address or a Unix socket";
        return Err(Stop::new(Exit::Usage, why));
    }
    log_to_stderr(&config);
    allow_many_descriptors();
    let has_commands = config.models.iter().any(|model| model.runner == Runner::Exec);
    let guard = has_commands.then(Guard::start).transpose();
    let guard = guard.map_err(|e| Stop::new(Exit::Failed, format!("cannot start: {e}")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Stop::new(Exit::Failed, format!("cannot start: {e}")))?;
    let done = runtime.block_on(run(&config, guard.as_ref(), args.demo, out));
    runtime.shutdown_timeout(limits::DROP_WAIT);
    done
}

async fn run(config: &Config, guard: Option<&Guard>, demo: bool, out: &Out) -> Result<Exit, Stop> {
    let stop = Stopping::new(Owner::Supervisor)?;
    let exposure = if config.allow_anonymous { Exposure::Anyone } else { Exposure::Local };
    let listener = Listener::bind(&config.listen.to_string(), exposure).await.map_err(|e| bind_failed(&e))?;
    let address = listener.address().map_err(|e| bind_failed(&e))?;
    let coordinator = coordinator(config, guard, demo).await?;
    announce(config, &address, &coordinator, out);

    let options = ServerOptions {
        autostart: if config.autostart { Autostart::On } else { Autostart::Off },
        cors_origins: config.cors_origins.clone(),
        allowed_hosts: config.allowed_hosts.clone(),
        ids: match config.durability {
            Durability::Full => Ids::Seq,
            Durability::Relaxed => Ids::SeqEpoch,
        },
        ..ServerOptions::default()
    };
    let stop_serving = options.stop.clone();
    let serving = tokio::spawn(soloist_server::serve(listener, coordinator.clone(), options));
    let is_told_twice = asked(stop, &coordinator, config).await;
    coordinator.shutdown(config.shutdown_grace).await;
    stop_serving.cancel();
    let served = serving.await.map_err(io::Error::other).and_then(|served| served);
    tracing::info!("stopped");
    let exit = if is_told_twice.load(Ordering::Relaxed) { Exit::Failed } else { Exit::Completed };
    served.map(|()| exit).map_err(|e| Stop::new(Exit::Failed, format!("the listener broke: {e}")))
}

async fn coordinator(config: &Config, guard: Option<&Guard>, demo: bool) -> Result<Coordinator, Stop> {
    let mut builder = Coordinator::builder(store::open(config).await?)
        .linger(config.linger)
        .lease(config.lease)
        .on_lease_lost(OnLeaseLost::Abort);
    if demo {
        builder = soloist_runners::demo::register(builder);
    }
    for model in &config.models {
        let key = ModelKey::new(&model.app, &model.model).expect("checked when it was read");
        let runner: Arc<dyn soloist::Runner> = match model.runner {
            Runner::Exec => {
                let guard = guard.expect("started where there are commands");
                Arc::new(ExecRunner::new(model.exec.clone(), guard).expect("checked when it was read"))
            }
            Runner::Http => {
                let runner = HttpRunner::new(model.http.clone());
                Arc::new(runner.map_err(|e| Stop::new(Exit::Usage, format!("the model {key}: {e}")))?)
            }
        };
        builder = builder.runner(key, runner, model.terms());
    }
    Ok(builder.open().await?)
}

/// One line for people (or an object for machines) on standard output, once requests are answered.
fn announce(config: &Config, address: &str, coordinator: &Coordinator, out: &Out) {
    #[derive(Serialize)]
    struct Listening<'a> {
        listening: &'a str,
        store: String,
        models: Vec<String>,
    }
    let url = if address.starts_with("unix:") { address.to_owned() } else { format!("http://{address}") };
    let store = config.store.to_string();
    let models: Vec<_> = coordinator.models().into_iter().map(|(model, _)| model.to_string()).collect();
    // Nobody may be reading; the server runs all the same.
    let _ = if out.json() {
        out.value(&Listening { listening: &url, store, models })
    } else {
        let models = match models.is_empty() {
            true => "no models: add a [[model]] to soloist.toml, or try --demo".to_owned(),
            false => format!("models {}", models.join(", ")),
        };
        out.line(&format!("listening on {url} | store {store} | {models}"))
    };
}

fn bind_failed(error: &io::Error) -> Stop {
    let next = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there (another `soloist serve`?): stop it, or choose \
                                     another address with --listen"
        }
        _ => "",
    };
    Stop::new(Exit::Refused, format!("{error}{next}"))
}

/// Ready at the first signal. A second one ends the process at once, whatever runs; only the commands that run are
/// ended with it. Returns whether that one has come, which it may until the end.
async fn asked(mut stopping: Stopping, coordinator: &Coordinator, config: &Config) -> Arc<AtomicBool> {
    let giving_up = coordinator.clone();
    let is_told_twice = Arc::new(AtomicBool::new(false));
    let told_twice = is_told_twice.clone();
    stopping.next().await;
    tracing::info!(
        running = coordinator.stats().running,
        grace_s = config.shutdown_grace.as_secs(),
        "stopping: waits for what runs, up to the grace; a second signal ends it at once"
    );
    tokio::spawn(async move {
        stopping.next().await;
        told_twice.store(true, Ordering::Relaxed);
        let given_up = giving_up.shutdown(std::time::Duration::ZERO);
        let _ = tokio::time::timeout(limits::DROP_WAIT, given_up).await;
        std::process::exit(Exit::Failed as i32);
    });
    is_told_twice
}

pub(crate) fn log_to_stderr(config: &Config) {
    let filter = EnvFilter::builder().parse(&config.log).expect("checked when it was read");
    let ansi = console::Term::stderr().is_term();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi);
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Every viewer is a descriptor: takes as many as the system allows this process.
pub(crate) fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused or not, the server runs; connections beyond the limit wait.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
