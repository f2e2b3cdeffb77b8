//! One store, a server on it that lives on, and servers beside it that kill themselves.

use std::{path::Path, sync::Arc, time::Duration};

use rustix::process::Signal;
use soloist_test_postgres::Cluster;
use system_tests::{
    checker::{At, Summary, check, check_postgres},
    eventually,
    server::Server,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::play::{Line, Players, Record};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// On a busy machine a short lease is lost without a fault. Where it alone tells of a death it is waited for.
    fn lease_seconds(self) -> u32 {
        match self {
            Self::Sqlite => 4,
            Self::Postgres => 2,
        }
    }

    /// The places that a server on such a store passes, but for those of an upgrade.
    pub(crate) fn points(self) -> impl Iterator<Item = &'static str> {
        let own = match self {
            Self::Sqlite => "sqlite:",
            Self::Postgres => "postgres:",
        };
        let points = soloist::fault::POINTS.iter().copied();
        points.filter(move |name| {
            (name.starts_with("core:") || name.starts_with(own)) && !name.contains(":migrate-")
        })
    }
}

/// What a doomed server meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    /// Another one lives on beside it.
    Beside,
    /// The other one dies once it is there, and it has everything to itself.
    Alone,
    /// It is stopped for longer than its lease, and goes on.
    Suspended,
    /// It is asked to stop in the middle of its work.
    Stopped,
}

impl Scene {
    /// The one in which a place is passed for certain.
    pub(crate) fn of(point: &str) -> Self {
        let verb = point.split_once(':').unwrap().1;
        let is_one_of = |verbs: &[&str]| verbs.iter().any(|one| verb.starts_with(one));
        // What one of several servers does, whichever comes first.
        if is_one_of(&[
            "takeover-",
            "bury-",
            "tidy-",
            "prune-",
            "ripen-",
            "queued-claim-",
            "entomb-",
            "requeue-",
        ]) {
            Self::Alone
        } else if is_one_of(&["rejoin-"]) {
            Self::Suspended
        } else if is_one_of(&["drain-", "leave-"]) {
            Self::Stopped
        } else {
            Self::Beside
        }
    }
}

const CONFIG: &str = r#"
linger_seconds = 1
shutdown_grace_seconds = 0

[[model]]
app = "own"
model = "Line"
runner = "exec"
command = ["sleep", "0.5"]
max_concurrent = 1
max_concurrent_total = 2
max_retries = 5
retention = { completed = "1s", failed = "1s", cancelled = "1s" }

[[model]]
app = "own"
model = "Flaky"
runner = "exec"
command = ["false"]
max_retries = 2
retry_delay_seconds = 1

[[model]]
app = "own"
model = "Slow"
runner = "exec"
command = ["sleep", "30"]
timeout_seconds = 2
max_retries = 5

[[model]]
app = "own"
model = "Long"
runner = "exec"
command = ["sleep", "30"]
timeout_seconds = 6
max_retries = 5
"#;

pub(crate) struct Field {
    kind: Kind,
    dir: Arc<TempDir>,
    other: Option<Server>,
    /// Of the server that lives on, whichever process it is.
    line: Line,
    /// Of a database.
    url: Option<String>,
    record: Arc<Record>,
    playing: JoinSet<()>,
    rounds: u32,
}

impl Field {
    pub(crate) async fn new(kind: Kind) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let url = (kind == Kind::Postgres).then(|| {
            let database = Cluster::shared().database("faults");
            let url = database.url();
            // It goes with the cluster.
            std::mem::forget(database);
            url
        });
        let store = url.as_ref().map_or_else(String::new, |url| format!("store = \"{url}\"\n"));
        std::fs::write(
            dir.path().join("soloist.toml"),
            format!("{store}lease_seconds = {}\n{CONFIG}", kind.lease_seconds()),
        )
        .unwrap();
        let other = Server::start_in(dir.clone(), "127.0.0.1:0").await;
        // A request whose server dies in the same moment may wait for an answer that nobody gives.
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        let line = Line { address: other.address.clone(), http };
        let (record, playing) = (Arc::default(), JoinSet::new());
        Self { kind, dir, other: Some(other), line, url, record, playing, rounds: 0 }
    }

    /// One server that is to die at the n-th pass of a place; whether it has.
    pub(crate) async fn round(&mut self, program: &Path, point: &str, pass: u32, scene: Scene) -> bool {
        self.rounds += 1;
        self.tend().await;
        let round = format!("{}-{}", self.rounds, point.replace(':', "-"));
        let (line, record) = (self.line.clone(), self.record.clone());
        let players = |doomed: &Line| Players {
            doomed: doomed.clone(),
            other: line.clone(),
            record: record.clone(),
            round: round.clone(),
        };
        if scene == Scene::Alone {
            let left = players(&self.line);
            let mut leaving = tokio::spawn(async move { left.leave_runs().await });
            while !leaving.is_finished() {
                tokio::select! {
                    left = &mut leaving => {
                        left.unwrap();
                        break;
                    }
                    () = tokio::time::sleep(Duration::from_millis(200)) => self.tend().await,
                }
            }
        }
        let doomed = Server::doomed_in(self.dir.clone(), program, &format!("{point}:{pass}")).await;
        if scene == Scene::Alone {
            let mut other = self.other.take().unwrap();
            other.signal(Signal::KILL);
            assert!(other.ends_within(Duration::from_secs(10)).await);
        }
        let killed = match doomed {
            // Before it listened.
            None => true,
            Some(mut doomed) => {
                let line = Line { address: doomed.address.clone(), http: self.line.http.clone() };
                match scene {
                    Scene::Beside | Scene::Alone => players(&line).play(&mut self.playing),
                    Scene::Suspended => {
                        // Work that it may not go on with would end it.
                        doomed.signal(Signal::STOP);
                        tokio::time::sleep(Duration::from_millis(1_500) * self.kind.lease_seconds()).await;
                        doomed.signal(Signal::CONT);
                    }
                    Scene::Stopped => {
                        players(&line).play(&mut self.playing);
                        players(&line).slow_runs_begin().await;
                        doomed.signal(Signal::TERM);
                    }
                }
                doomed.is_killed_within(Duration::from_secs(10)).await
            }
        };
        if self.other.is_none() {
            self.other = Some(Server::start_in(self.dir.clone(), &self.line.address).await);
        }
        killed
    }

    /// Starts the server that lives on again where it has ended: on a machine that is too busy for its lease it ends itself.
    async fn tend(&mut self) {
        if let Some(other) = &mut self.other
            && other.ends_within(Duration::ZERO).await
        {
            println!("the server that lives on has lost its lease, and starts again");
            self.other = Some(Server::start_in(self.dir.clone(), &self.line.address).await);
        }
    }

    /// Waits for the end of all that was begun, and holds what is on record against what was told.
    pub(crate) async fn judge(mut self) -> Summary {
        while !self.playing.is_empty() {
            tokio::select! {
                played = self.playing.join_next() => played.expect("one is there").unwrap(),
                () = tokio::time::sleep(Duration::from_millis(200)) => self.tend().await,
            }
        }
        let other = self.other.take().unwrap();
        let rest = || async {
            let mut active = 0;
            for status in ["queued", "running", "cancelling"] {
                let (_, page) = self.line.insist(("GET", &format!("/tasks?status={status}"), "", None)).await;
                active += page["tasks"].as_array().unwrap().len();
            }
            active == 0
        };
        eventually("S7: every run ends", rest).await;
        let rest = || async {
            let stats = other.stats().await;
            ["running", "starting", "kept", "viewers", "stuck"].iter().all(|count| stats[count] == 0)
        };
        eventually("S8: nothing is kept of what is over", rest).await;
        let told = self.record.told();
        match &self.url {
            Some(url) => check_postgres(url, At::Rest, &told).await,
            None => check(&other.database(), At::Rest, &told),
        }
    }
}
