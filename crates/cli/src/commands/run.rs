//! `soloist run`
//!
//! Decides: what a call of it is. It is a node of its own on the store. It creates the task `cli/run/ID` and starts it;
//! of all calls with one id that do so at a time, one wins and runs its command here, and the others watch that run.
//! Nobody else ever starts such a task, and when this process is killed its command is ended and the run is `NodeLost`.
//!
//! - Whoever wins looks at the log from before its start, and everybody shows the run that its start named, no other.
//! - Whoever reads the output may stop reading, and whatever it is written to may be full; the command goes on.
//! - A first signal cancels the run (or lets go of one that is only watched), a second one ends everything at once. That
//!   holds also while nobody reads the output, and while the store cannot be written to.

use std::{process::ExitCode, sync::Arc, time::Duration};

use serde::Serialize;
use soloist::{
    CancelOptions, Coordinator, Create, Data, Delivery, Error, From, Json, Key, ModelKey, ModelOptions,
    NewTask, Seq, Start, StartOptions, Status, SubscribeOptions, Subscribed, Subscription,
    lease::OnLeaseLost, limits,
};
use soloist_client::{Event, Gap};
use soloist_runners::{
    exec::{Caller, ExecOptions, ExecRunner},
    guard::Guard,
};
use soloist_wire::RawJson;
use tokio::time::{Instant, sleep, timeout};

use super::{
    screen::Screen,
    serve::log_to_stderr,
    stopping::{Owner, Stopping},
};
use crate::{
    args::Run,
    config::Config,
    exit::{Exit, Stop},
    render::{Out, ago, status},
    store,
};

/// The model of the tasks that are run by this command.
const MODEL: &str = "run";

pub(crate) fn run(args: Run, out: &Out) -> Result<ExitCode, Stop> {
    let failed = |e: std::io::Error| Stop::new(Exit::Failed, format!("cannot start: {e}"));
    let config = args.store.clone().load()?;
    if !store::is_shared(&config) {
        return Err(Stop::new(Exit::Usage, "the store is memory:, where no other call could find the task"));
    }
    log_to_stderr(&config);
    // Before this process has threads.
    let guard = Guard::start().map_err(failed)?;
    let runner = ExecRunner::new(options(&args.command), &guard)
        .map_err(|e| Stop::new(Exit::Usage, format!("the command cannot be run: {}", e.message)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let done = runtime.block_on(async {
        let mut stopping = Stopping::new(Owner::Terminal)?;
        let begun = async {
            let here = Here::open(runner, &config).await?;
            let begun = here.begin(&args).await?;
            Ok::<_, Stop>((here, begun))
        };
        let (here, begun) = tokio::select! {
            begun = begun => begun?,
            // Where the start has won already, the run ends with this process.
            code = stopping.next() => return Ok(ExitCode::from(code)),
        };
        let done = here.see(begun, &args, stopping, out).await;
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

impl Here {
    async fn open(runner: ExecRunner, config: &Config) -> Result<Self, Stop> {
        let model = ModelKey::new(ModelKey::OWN_APP, MODEL).expect("both names are valid");
        let coordinator = Coordinator::builder(store::open(config).await?)
            .lease(config.lease)
            .on_lease_lost(OnLeaseLost::Abort)
            .runner(
                model.clone(),
                Arc::new(runner),
                ModelOptions { max_concurrent: 1, ..ModelOptions::default() },
            );
        Ok(Self { coordinator: coordinator.open().await?, model })
    }

    /// Creates and starts the task. One that is deleted between the two (it had ended, and was cleaned up) is created
    /// anew.
    async fn begin(&self, args: &Run) -> Result<Begun, Stop> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_to_begin(args).await {
                Err(Error::NotFound { code: "unknown_task", .. }) if tries < limits::RUN_CREATE_TRIES => {}
                begun => {
                    let begun = begun?;
                    begun.check_that_it_is_not_inside_itself()?;
                    return Ok(begun);
                }
            }
        }
    }

    async fn try_to_begin(&self, args: &Run) -> soloist::Result<Begun> {
        let key = self.task(args.id.as_deref()).await?;
        // From before the start on, so that nothing of a run that it begins is missed.
        let tail = SubscribeOptions { from: From::Tail, follow: true, autostart: false };
        let before = self.subscribe(&key, tail).await?;
        let options = StartOptions { policy: args.policy.policy(), ..StartOptions::default() };
        let start = self.coordinator.start(&key, options).await?;
        Ok(Begun { key, before, start })
    }

    /// Shows the run to its end.
    async fn see(&self, begun: Begun, args: &Run, stopping: Stopping, out: &Out) -> Result<ExitCode, Stop> {
        let Begun { key, before, start } = begun;
        let (is_ours, run) = (matches!(start, Start::Started { .. }), run_of(&start));
        // Before anything is printed, which may block.
        let stopping = tokio::spawn(self.stop_when_told(stopping, &key, is_ours.then_some(run)));
        let mut view = View { run, screen: Some(Screen::new(out)), is_told: false, out };
        view.print(|_| say(&key, &start, out));
        // A run that was there before this call looked is shown from its first event.
        let mut subscription = match before.task().run == run {
            true => self.after(&key, before.task().run_start_seq).await?,
            false => before,
        };
        let exit = loop {
            let ended = view.show(&mut subscription).await;
            if self.coordinator.draining().is_cancelled() {
                // A signal has ended it, and with it maybe the run; whoever took the signal ends the process.
                std::future::pending::<()>().await;
            }
            match ended {
                Ok(Some(exit)) => break exit,
                Ok(None) => {}
                // What cannot be read will not be read later; a command that runs here goes on to its end all the same.
                Err(error) if is_ours => {
                    view.told_once(&format!("{error}; the command goes on, and is not shown any more"));
                    sleep(limits::RUN_ASK_AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
            // The stream is over and the run need not be: its task may have been deleted and created anew.
            let task = self.coordinator.task(&key).await?;
            if task.run != run {
                let what = format!("how run {run} of {key} ended is not on record any more");
                return Err(Stop::new(Exit::NotFound, what));
            }
            if let Some(exit) = Exit::of_status(task.status.as_str()) {
                break exit;
            }
            subscription = self.after(&key, subscription.cursor().max(task.run_start_seq)).await?;
        };
        stopping.abort();
        Ok(match args.attached_exit_code {
            Some(code) if !is_ours => ExitCode::from(code),
            _ => exit.into(),
        })
    }

    /// The task, new or not.
    async fn task(&self, id: Option<&str>) -> soloist::Result<Key> {
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

    async fn after(&self, key: &Key, seq: Seq) -> soloist::Result<Subscription> {
        let options = SubscribeOptions { from: From::After(seq.into()), follow: true, autostart: false };
        self.subscribe(key, options).await
    }

    async fn subscribe(&self, key: &Key, options: SubscribeOptions) -> soloist::Result<Subscription> {
        match self.coordinator.subscribe(key, options).await? {
            Subscribed::Stream(subscription) => Ok(subscription),
            Subscribed::Ended => unreachable!("it follows, so it never ends"),
        }
    }

    /// Apart from what is shown: a signal counts also while nobody reads the output. Ends the process, but where the
    /// run ends first.
    fn stop_when_told(
        &self,
        mut stopping: Stopping,
        key: &Key,
        ours: Option<u64>,
    ) -> impl Future<Output = ()> + 'static {
        let (coordinator, key) = (self.coordinator.clone(), key.clone());
        async move {
            let mut code = stopping.next().await;
            if ours.is_some() {
                tokio::select! {
                    is_asked = cancel(&coordinator, &key, ours) => if is_asked {
                        code = stopping.next().await;
                    },
                    again = stopping.next() => code = again,
                }
            }
            let _ = timeout(limits::DROP_WAIT, coordinator.shutdown(Duration::ZERO)).await;
            std::process::exit(code.into());
        }
    }
}

/// Puts on record that the run is to stop. False where the store cannot be written to for a while: the one signal that a
/// supervisor sends must not be lost on that.
async fn cancel(coordinator: &Coordinator, key: &Key, run: Option<u64>) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limits::RUN_CANCEL_WAIT {
        let options = CancelOptions { reason: Some("interrupted".to_owned()), run };
        match coordinator.cancel(key, options).await {
            Err(Error::Unavailable { .. } | Error::Full { .. }) => sleep(limits::RUN_ASK_AGAIN).await,
            // Also where it has ended meanwhile: its end is about to be shown.
            Ok(_) | Err(_) => return true,
        }
    }
    false
}

/// A start that was answered.
struct Begun {
    key: Key,
    /// From before the start on.
    before: Subscription,
    start: Start,
}

impl Begun {
    /// A command that runs its own id waits for itself, and what it prints comes back to it.
    fn check_that_it_is_not_inside_itself(&self) -> Result<(), Stop> {
        let Start::AlreadyActive { run, .. } = &self.start else { return Ok(()) };
        let is =
            |name: &str, what: &str| std::env::var(format!("SOLOIST_TASK_{name}")).is_ok_and(|is| is == what);
        let key = &self.key;
        if is("APP", key.app())
            && is("MODEL", key.model())
            && is("ID", key.id())
            && is("RUN", &run.to_string())
        {
            return Err(Stop::new(
                Exit::Refused,
                format!(
                    "this call is part of run {run} of {key} and would wait for itself; give it another --id"
                ),
            ));
        }
        Ok(())
    }
}

fn run_of(start: &Start) -> u64 {
    match start {
        Start::Started { run }
        | Start::AlreadyActive { run, .. }
        | Start::Next { active: run, .. }
        | Start::AlreadyFinished { run, .. }
        | Start::Replayed { run, .. } => *run,
    }
}

/// What became of the start, for machines.
#[derive(Serialize)]
struct Said<'a> {
    key: String,
    run: u64,
    /// Whether the command runs here.
    started: bool,
    status: &'a str,
    /// The process that runs it, where that is another one.
    node: Option<String>,
}

fn say(key: &Key, start: &Start, out: &Out) -> Result<(), Stop> {
    let run = run_of(start);
    let (started, state, node, since) = match start {
        Start::Started { .. } => (true, Status::Running, None, None),
        Start::AlreadyActive { status, node, since, .. } | Start::Next { status, node, since, .. } => {
            (false, *status, node.as_ref(), since.as_ref())
        }
        Start::AlreadyFinished { status, .. } | Start::Replayed { status, .. } => {
            (false, *status, None, None)
        }
    };
    if out.json() {
        let node = node.map(ToString::to_string);
        return out.value(&Said { key: key.to_string(), run, started, status: state.as_str(), node });
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
    run: u64,
    /// None once nothing more can be printed.
    screen: Option<Screen<'a>>,
    /// Whether it was said that it cannot be read.
    is_told: bool,
    out: &'a Out,
}

impl<'a> View<'a> {
    /// How the run ended; none where the stream is over before that.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; a store that cannot be asked is asked again.
    async fn show(&mut self, subscription: &mut Subscription) -> soloist::Result<Option<Exit>> {
        loop {
            let slice = match subscription.next().await {
                Ok(Some(Delivery::Events(slice))) => slice,
                Ok(Some(Delivery::Gap { reason, first_seq })) => {
                    let gap = Gap { reason: reason.as_str().to_owned(), first_seq };
                    self.print(|screen| screen.gap(&gap));
                    continue;
                }
                Ok(None) => return Ok(None),
                Err(error @ Error::Corrupt { .. }) => return Err(error),
                Err(error) => {
                    self.print(|screen| {
                        screen.note(&format!("{error}; it is read again"));
                        Ok(())
                    });
                    sleep(limits::RUN_ASK_AGAIN).await;
                    continue;
                }
            };
            for event in slice.events() {
                if event.run > self.run {
                    return Ok(None);
                }
                if event.run < self.run {
                    continue;
                }
                self.print(|screen| screen.event(seen(event)));
                let ending = Exit::of_ending(event.event_type.as_str());
                if ending.is_some() {
                    return Ok(ending);
                }
            }
        }
    }

    fn told_once(&mut self, text: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            self.out.note(text);
        }
    }

    /// Prints, for as long as that is possible: neither the command nor the exit code depend on it.
    fn print(&mut self, print: impl FnOnce(&mut Screen<'a>) -> Result<(), Stop>) {
        let Some(screen) = &mut self.screen else { return };
        let Err(stop) = print(screen) else { return };
        screen.close();
        self.screen = None;
        // Whoever read has seen enough where it says nothing.
        if !stop.message.is_empty() {
            self.out.note(&format!("{}; the run goes on, and `soloist watch` shows it", stop.message));
        }
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
        epoch: Some(event.epoch.0),
        run: event.run,
        event_type: event.event_type.to_string(),
        timestamp: event.timestamp.to_string(),
        data: serde_json::from_str::<RawJson>(&data).expect("data on record are JSON"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use async_trait::async_trait;
    use clap::Parser as _;
    use soloist::{Context, Failure, MemoryStore, Runner, Store, Timestamp, store::StoreResult};
    use soloist_store_contract::line::{Between, Call, Line};

    use super::*;
    use crate::args::{Cli, Cmd};

    /// Ends as the signal says: `true` is a success.
    struct AsTold;

    #[async_trait]
    impl Runner for AsTold {
        fn kind(&self) -> &'static str {
            "native"
        }

        fn check(&self, _: &Json) -> soloist::Result<()> {
            Ok(())
        }

        async fn run(&self, _: Json, context: Context) -> Result<Json, Failure> {
            let told = context.wait_signal("end", Duration::from_secs(60)).await?.expect("it is told");
            if told.as_str() == "true" { Ok(told) } else { Err(Failure::new("Told", "told to fail")) }
        }
    }

    /// A store in which a finished task is cleaned up right before it is started.
    struct CleanedUp {
        store: MemoryStore,
        is_due: AtomicBool,
    }

    #[async_trait]
    impl Between for CleanedUp {
        fn store(&self) -> &dyn Store {
            &self.store
        }

        async fn before(&self, call: Call<'_>) -> StoreResult<()> {
            if matches!(call, Call::Claim) && self.is_due.swap(false, SeqCst) {
                self.store.delete(&key(), None, Timestamp::now()).await?;
            }
            Ok(())
        }
    }

    fn key() -> Key {
        "cli/run/x".parse().unwrap()
    }

    fn args() -> Run {
        let words = ["soloist", "run", "--id", "x", "--", "true"];
        let Cmd::Run(args) = Cli::try_parse_from(words).unwrap().command else { unreachable!() };
        args
    }

    async fn here(store: Arc<dyn Store>) -> Here {
        let model = ModelKey::new(ModelKey::OWN_APP, MODEL).unwrap();
        let options = ModelOptions { max_concurrent: 1, ..ModelOptions::default() };
        let coordinator = Coordinator::builder(store).runner(model.clone(), Arc::new(AsTold), options);
        Here { coordinator: coordinator.open().await.unwrap(), model }
    }

    async fn end(here: &Here, run: u64, how: &str) {
        here.coordinator.signal(&key(), "end", Json::parse(how).unwrap()).await.unwrap();
        here.coordinator.ended(&key(), run).await.unwrap();
    }

    #[tokio::test]
    async fn a_task_that_is_cleaned_up_before_it_is_started_is_created_anew_and_run() {
        let store = CleanedUp { store: MemoryStore::new(), is_due: AtomicBool::new(false) };
        let store = Arc::new(Line(store));
        let here = here(store.clone()).await;
        assert_eq!(here.begin(&args()).await.unwrap().start, Start::Started { run: 1 });
        end(&here, 1, "true").await;
        store.is_due.store(true, SeqCst);
        assert_eq!(here.begin(&args()).await.unwrap().start, Start::Started { run: 2 });
        assert!(!store.is_due.load(SeqCst), "it was deleted in between");
        end(&here, 2, "true").await;
    }

    /// A store whose events cannot be read.
    struct Broken(MemoryStore);

    #[async_trait]
    impl Between for Broken {
        fn store(&self) -> &dyn Store {
            &self.0
        }

        async fn before(&self, call: Call<'_>) -> StoreResult<()> {
            match call {
                Call::Events => Err(soloist::StoreError::Corrupt("broken".to_owned())),
                _ => Ok(()),
            }
        }
    }

    #[tokio::test]
    async fn a_command_whose_events_cannot_be_read_goes_on_and_its_end_is_the_exit_code() {
        let store = MemoryStore::new();
        let (owner, broken) =
            (here(Arc::new(store.clone())).await, here(Arc::new(Line(Broken(store)))).await);
        let begun = owner.begin(&args()).await.unwrap();
        assert_eq!(begun.start, Start::Started { run: 1 });
        // As for the one that runs it where it has fallen behind what is kept in memory.
        let before = broken.after(&key(), 0).await.unwrap();
        let begun = Begun { before, ..begun };
        let stopping = Stopping::new(Owner::Supervisor).unwrap();
        let (args, out) = (args(), Out::new(true));
        let see = broken.see(begun, &args, stopping, &out);
        let (exit, ()) = tokio::join!(see, end(&owner, 1, "true"));
        assert_eq!(format!("{:?}", exit.unwrap()), format!("{:?}", ExitCode::from(Exit::Completed as u8)));
    }

    #[tokio::test]
    async fn whoever_attaches_is_told_of_the_run_that_its_start_named_and_of_no_later_one() {
        let store = MemoryStore::new();
        let (owner, other) = (here(Arc::new(store.clone())).await, here(Arc::new(store)).await);
        owner.begin(&args()).await.unwrap();
        let attached = other.begin(&args()).await.unwrap();
        assert!(matches!(attached.start, Start::AlreadyActive { run: 1, .. }), "{:?}", attached.start);
        // It ends and is run again before the one that is attached has looked.
        end(&owner, 1, "false").await;
        assert_eq!(owner.begin(&args()).await.unwrap().start, Start::Started { run: 2 });
        let stopping = Stopping::new(Owner::Supervisor).unwrap();
        let exit = other.see(attached, &args(), stopping, &Out::new(true)).await.unwrap();
        assert_eq!(format!("{exit:?}"), format!("{:?}", ExitCode::from(Exit::Failed as u8)), "run 2 goes on");
        end(&owner, 2, "true").await;
    }
}
