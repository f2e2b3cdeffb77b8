//! `soloist run`
//!
//! Decides: what a call of it is. It is a node of its own on the store. It creates the task `cli/run/ID` and starts it;
//! of all calls with one id that do so at a time, one wins and runs its command here, and the others watch that run.
//! Nobody else ever starts such a task, and when this process is killed its command is ended and the run is `NodeLost`.
//!
//! - Whoever wins looks at the log from before its start, so that it sees all of its own run and nothing else.
//! - Whoever reads the output may stop reading; the command goes on.
//! - A first signal cancels the run (or lets go of one that is only watched), a second one ends everything at once.

use std::{process::ExitCode, sync::Arc, time::Duration};

use serde::Serialize;
use soloist::{
    CancelOptions, Coordinator, Create, Data, Delivery, From, Json, Key, ModelKey, ModelOptions, NewTask,
    Start, StartOptions, SubscribeOptions, Subscribed, Subscription, lease::OnLeaseLost, limits,
};
use soloist_client::{Event, Gap};
use soloist_runners::{
    exec::{Caller, ExecOptions, ExecRunner},
    guard::Guard,
};
use soloist_sqlite::SqliteStore;
use soloist_wire::RawJson;

use super::{
    screen::Screen,
    serve::{Stopping, log_to_stderr, store_options},
};
use crate::{
    args::Run,
    config::{Config, types::StoreUrl},
    exit::{Exit, Stop},
    render::{Out, ago, status},
};

/// The model of the tasks that are run by this command.
const MODEL: &str = "run";
/// How long a store that cannot be read is asked again.
const READ_AGAIN: Duration = Duration::from_millis(200);

pub(crate) fn run(args: Run, out: &Out) -> Result<ExitCode, Stop> {
    let failed = |e: std::io::Error| Stop::new(Exit::Failed, format!("cannot start: {e}"));
    let config = args.store.clone().load()?;
    let StoreUrl::Sqlite(file) = &config.store else {
        return Err(Stop::new(Exit::Usage, "the store is memory:, where no other call could find the task"));
    };
    log_to_stderr(&config);
    // Before this process has threads.
    let guard = Guard::start().map_err(failed)?;
    let runner = ExecRunner::new(options(&args.command), &guard)
        .map_err(|e| Stop::new(Exit::Usage, format!("the command cannot be run: {}", e.message)))?;
    let store = SqliteStore::open_with(file, store_options(&config))
        .map_err(|e| Stop::new(Exit::Unreachable, format!("store: {e}")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let done = runtime.block_on(async {
        let stopping = Stopping::new()?;
        let here = Here::open(store, runner, &config).await?;
        let done = here.run(&args, stopping, out).await;
        here.coordinator.shutdown(Duration::ZERO).await;
        done
    });
    runtime.shutdown_timeout(limits::DROP_WAIT);
    done
}

/// The command as it stands: nothing is filled in.
fn options(command: &[String]) -> ExecOptions {
    let literal = |word: &String| word.replace('{', "{{").replace('}', "}}");
    ExecOptions {
        command: command.iter().map(literal).collect(),
        caller: Caller::Itself,
        ..ExecOptions::default()
    }
}

/// This process as a node.
struct Here {
    coordinator: Coordinator,
    model: ModelKey,
}

/// What became of the start.
#[derive(Serialize)]
struct Begun<'a> {
    key: String,
    run: u64,
    /// Whether the command runs here.
    started: bool,
    status: &'a str,
    /// The process that runs it, where that is another one.
    node: Option<String>,
}

impl Here {
    async fn open(store: SqliteStore, runner: ExecRunner, config: &Config) -> Result<Self, Stop> {
        let model = ModelKey::new(ModelKey::OWN_APP, MODEL).expect("both names are valid");
        let coordinator = Coordinator::builder(Arc::new(store))
            .lease(config.lease)
            .on_lease_lost(OnLeaseLost::Abort)
            .runner(model.clone(), Arc::new(runner), ModelOptions { max_concurrent: 1 });
        Ok(Self { coordinator: coordinator.open().await?, model })
    }

    async fn run(&self, args: &Run, stopping: Stopping, out: &Out) -> Result<ExitCode, Stop> {
        let key = self.task(args.id.as_deref()).await?;
        // From before the start on, so that nothing of the run is missed, and nothing else is taken for it.
        let tail = SubscribeOptions { from: From::Tail, follow: true, autostart: false };
        let before = self.subscribe(&key, tail).await?;
        let options = StartOptions { policy: args.policy.policy(), ..StartOptions::default() };
        let start = self.coordinator.start(&key, options).await?;
        let ours = match &start {
            Start::Started { run } => Some(*run),
            _ => None,
        };
        say(&key, &start, out)?;
        let stopping = tokio::spawn(self.stop_when_told(stopping, &key, ours, args));
        let view = View { run: ours, out };
        let ended = match ours {
            Some(_) => view.to_the_end(before).await,
            None => {
                drop(before);
                // All that the run has sent so far, too.
                let replay = SubscribeOptions { from: From::RunStart, follow: false, autostart: false };
                view.to_the_end(self.subscribe(&key, replay).await?).await
            }
        };
        let exit = match ended? {
            Some(exit) => exit,
            // A signal has ended it, and whoever took that ends the process.
            None if self.coordinator.closing().is_cancelled() => std::future::pending().await,
            None => Exit::of_status(self.coordinator.task(&key).await?.status.as_str()),
        };
        stopping.abort();
        Ok(match (ours, args.attached_exit_code) {
            (None, Some(code)) => ExitCode::from(code),
            _ => exit.into(),
        })
    }

    /// The task, new or not.
    async fn task(&self, id: Option<&str>) -> Result<Key, Stop> {
        let nothing = Json::parse("{}").expect("it is JSON");
        let new = match id {
            Some(id) => NewTask::named(self.model.with_id(id)?, nothing),
            None => NewTask::assigned(self.model.clone(), nothing),
        };
        match self.coordinator.create(new).await? {
            Create::Created(task) | Create::Exists(task) | Create::Differs(task) => Ok(task.key),
            Create::Replayed(_) | Create::ReplayedDeleted(_) | Create::KeyReused => {
                unreachable!("it was created without an idempotency key")
            }
        }
    }

    async fn subscribe(&self, key: &Key, options: SubscribeOptions) -> Result<Subscription, Stop> {
        match self.coordinator.subscribe(key, options).await? {
            Subscribed::Stream(subscription) => Ok(subscription),
            Subscribed::Ended => unreachable!("no cursor was given"),
        }
    }

    /// Apart from what is shown: a signal counts also while nobody reads the output.
    fn stop_when_told(
        &self,
        mut stopping: Stopping,
        key: &Key,
        ours: Option<u64>,
        args: &Run,
    ) -> impl Future<Output = ()> + 'static {
        let (coordinator, key) = (self.coordinator.clone(), key.clone());
        let code = args.attached_exit_code.filter(|_| ours.is_none()).unwrap_or(Exit::Cancelled as u8);
        async move {
            stopping.next().await;
            if ours.is_some() {
                let reason = Some("interrupted".to_owned());
                // Where it has ended meanwhile, this process is about to end.
                let _ = coordinator.cancel(&key, CancelOptions { reason, run: ours }).await;
                stopping.next().await;
            }
            let given_up = coordinator.shutdown(Duration::ZERO);
            let _ = tokio::time::timeout(limits::DROP_WAIT, given_up).await;
            std::process::exit(code.into());
        }
    }
}

fn say(key: &Key, start: &Start, out: &Out) -> Result<(), Stop> {
    let (started, run, state, node, since) = match start {
        Start::Started { run } => (true, *run, soloist::Status::Running, None, None),
        Start::AlreadyActive { run, status, node, since } => {
            (false, *run, *status, node.as_ref(), since.as_ref())
        }
        Start::AlreadyFinished { run, status } | Start::Replayed { run, status, .. } => {
            (false, *run, *status, None, None)
        }
    };
    if out.json() {
        let node = node.map(ToString::to_string);
        return out.value(&Begun { key: key.to_string(), run, started, status: state.as_str(), node });
    }
    let mut text = match started {
        true => format!("{key}: run {run} begins"),
        false if state.is_finished() => format!("{key}: run {run} is {} already", status(state.as_str())),
        false => format!("{key}: run {run} is {} elsewhere", status(state.as_str())),
    };
    if let Some(since) = since {
        text.push_str(&format!(", started {}", ago(&since.to_string())));
    }
    out.note(&text);
    Ok(())
}

/// A run that is shown until its end.
struct View<'a> {
    /// The run of this process; none where it only watches.
    run: Option<u64>,
    out: &'a Out,
}

impl View<'_> {
    /// How it ended; none where there was nothing to see.
    async fn to_the_end(&self, mut subscription: Subscription) -> Result<Option<Exit>, Stop> {
        let mut screen = Some(Screen::new(self.out));
        loop {
            let slice = match subscription.next().await {
                Ok(Some(Delivery::Events(slice))) => slice,
                Ok(Some(Delivery::Gap { reason, first_seq })) => {
                    let gap = Gap { reason: reason.as_str().to_owned(), first_seq };
                    shown(&mut screen, |screen| screen.gap(&gap))?;
                    continue;
                }
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.out.note(&format!("{error}; it is read again"));
                    tokio::time::sleep(READ_AGAIN).await;
                    continue;
                }
            };
            for event in slice.events().iter().filter(|event| self.run.is_none_or(|run| run == event.run)) {
                shown(&mut screen, |screen| screen.event(seen(event)))?;
                let ending = Exit::of_ending(event.event_type.as_str());
                if ending.is_some() {
                    return Ok(ending);
                }
            }
        }
    }
}

/// Prints, for as long as somebody reads: the command does not depend on it.
fn shown(
    screen: &mut Option<Screen<'_>>,
    print: impl FnOnce(&mut Screen<'_>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let Some(open) = screen else { return Ok(()) };
    match print(open) {
        Err(stop) if stop.exit == Exit::Completed => {
            *screen = None;
            Ok(())
        }
        done => done,
    }
}

/// An event as a client has it.
fn seen(event: &soloist::Event) -> Event {
    let data = match &event.data {
        Data::Json(json) if json.as_str().starts_with('{') => json.as_str().to_owned(),
        Data::Json(json) => format!("{{\"value\":{}}}", json.as_str()),
        Data::Text(text) => serde_json::json!({ "value": &**text }).to_string(),
    };
    Event {
        seq: event.seq,
        run: event.run,
        event_type: event.event_type.to_string(),
        timestamp: event.timestamp.to_string(),
        data: serde_json::from_str::<RawJson>(&data).expect("data on record are JSON"),
    }
}
