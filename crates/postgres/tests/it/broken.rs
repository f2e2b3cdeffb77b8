//! Connections that are cut, a server that crashes, a network that swallows everything: nothing is lost, doubled or
//! reordered, nobody waits for ever, and nothing that is told holds a password.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use soloist::{
    Create, Key, NodeId, Store, Timestamp,
    lease::RunLease,
    state::Place,
    store::{Applied, Claim, FirstClaim, NewNode, Renewal, StoreError},
};
use soloist_postgres::{PgOptions, PgStore};
use soloist_store_contract::{
    Harness, ManualBootClock,
    stage::{Stage, append, completed, events, finish},
};
use soloist_test_postgres::{Cluster, Options};

use crate::stage::{Private, plain, schema, within};

/// A cluster of its own, that is stopped and started.
struct Crashing(Cluster);

#[async_trait]
impl Harness for Crashing {
    async fn fresh() -> Self {
        // It waits for the disk: what is answered is to survive the crash.
        Self(Cluster::start(&Options { fsync: true, ..Options::default() }))
    }

    async fn open(&self, clock: ManualBootClock) -> Arc<dyn Store> {
        let options = PgOptions { clock: Some(Arc::new(clock)), ..PgOptions::default() };
        let url = self.0.url("postgres").replace("postgres@", "postgres:s3cr3t@");
        Arc::new(PgStore::open_with(&url, options).await.unwrap())
    }
}

/// Writes a log of many small batches as the holder of a run does, each sent again unchanged until it is answered, and
/// ends the run. How often it was sent again.
async fn work(store: Arc<dyn Store>, lease: RunLease, batches: u64) -> u32 {
    let mut again = 0;
    for n in 0..=batches {
        let at = Timestamp::from_micros(0);
        let write = if n < batches {
            append(&lease, n * 3, events(&lease, n * 3, 3, at))
        } else {
            finish(&lease, n * 3, soloist::Status::Running, completed("1"), at)
        };
        loop {
            match store.apply(write.clone()).await {
                Ok(Applied::Committed { .. } | Applied::AlreadyThere) => break,
                Ok(other) => panic!("batch {n} of {} was answered {other:?}", lease.key()),
                Err(StoreError::Unavailable(why)) => {
                    assert!(!why.contains("s3cr3t"), "{why}");
                    again += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    again
}

/// Runs work on many tasks over two handles, breaks something again and again meanwhile, and compares the logs.
async fn nothing_is_lost<H: Harness>(tasks: usize, batches: u64, breaks: impl AsyncFn(&Stage<H>) -> bool) {
    let stage = Stage::<H>::new().await;
    let handles = [stage.store.clone(), stage.another().await];
    let mut working = Vec::new();
    for n in 0..tasks {
        let lease = stage.running(&n.to_string()).await;
        working.push((lease.key().clone(), tokio::spawn(work(handles[n % 2].clone(), lease, batches))));
    }
    let mut broken = 0;
    while working.iter().any(|(_, work)| !work.is_finished()) {
        broken += usize::from(breaks(&stage).await);
    }
    let mut again = 0;
    for (key, work) in working {
        again += work.await.unwrap();
        let log = stage.log(&key).await;
        assert_eq!(log.len() as u64, batches * 3 + 1, "{key}");
        assert!(
            log[..log.len() - 1]
                .iter()
                .all(|e| e.data.as_str() == format!(r#"{{"seq": {}, "run": 1}}"#, e.seq))
        );
        assert_eq!(stage.task(&key).await.status, soloist::Status::Completed);
    }
    println!("{broken} breaks; {again} writes were sent again by their callers");
    assert!(broken > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_under_load_lose_and_double_nothing() {
    nothing_is_lost::<Private>(20, 150, async |stage| {
        tokio::time::sleep(Duration::from_millis(40)).await;
        tokio::task::block_in_place(|| stage.harness.cut());
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_under_load_loses_and_doubles_nothing() {
    let crashes = std::sync::atomic::AtomicU32::new(0);
    nothing_is_lost::<Crashing>(20, 100, async |stage| {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if crashes.fetch_add(1, Ordering::Relaxed) >= 3 {
            return false;
        }
        tokio::task::block_in_place(|| stage.harness.0.restart());
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_claims_whose_connections_are_cut_have_one_winner_and_it_is_on_record() {
    let stage = Stage::<Private>::new().await;
    let handles = [stage.store.clone(), stage.another().await];
    let nodes = [stage.node.clone(), stage.join().await];
    let is_over = Arc::new(AtomicBool::new(false));
    let cutting = {
        let (is_over, url) = (is_over.clone(), stage.harness.0.name().to_owned());
        thread::spawn(move || {
            let mut cuts = 0;
            while !is_over.load(Ordering::Relaxed) {
                let cut = format!(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                      WHERE datname = '{url}' AND pid <> pg_backend_pid()"
                );
                Cluster::shared().sql("postgres", &cut);
                cuts += 1;
                thread::sleep(Duration::from_millis(30));
            }
            cuts
        })
    };
    let mut untold = 0;
    for round in 0..30 {
        let key: Key = format!("app/Model/{round}").parse().unwrap();
        create(&*stage.store, &key).await;
        let claims = (0..16).map(|n| {
            let request = soloist::store::ClaimRequest { node: nodes[n % 2].clone(), ..stage.request(&key) };
            let store = handles[n % 2].clone();
            tokio::spawn(async move { (n % 2, store.claim(request).await) })
        });
        let mut winners = Vec::new();
        for claim in claims.collect::<Vec<_>>() {
            match claim.await.unwrap() {
                (n, Ok(Claim::Won(won))) => winners.push((n, won)),
                (_, Ok(Claim::Active(row))) => assert_eq!(row.run, 1),
                (_, Err(StoreError::Unavailable(_))) => untold += 1,
                (_, other) => panic!("{other:?}"),
            }
        }
        assert!(winners.len() <= 1, "{winners:?}");
        let row = loop {
            if let Ok(task) = stage.store.task(&key).await {
                break task.unwrap();
            }
        };
        assert!(row.run <= 1);
        for (n, won) in winners {
            assert_eq!((row.run, row.epoch, row.node.as_ref()), (won.run, won.epoch, Some(&nodes[n])));
        }
        // The same where the task is made in that very step: whoever has made it is told so, also by the second look.
        let key: Key = format!("app/Model/made-{round}").parse().unwrap();
        let creates = (0..16).map(|n| {
            let claim = FirstClaim { node: nodes[n % 2].clone(), place: Place::Here, trace: None };
            let new = soloist::NewTask::named(key.clone(), soloist::Json::null());
            let (store, at) = (handles[n % 2].clone(), stage.now());
            tokio::spawn(async move { (n % 2, store.create_claimed(new, claim, at).await) })
        });
        let (mut makers, mut is_untold) = (Vec::new(), false);
        for create in creates.collect::<Vec<_>>() {
            match create.await.unwrap() {
                (n, Ok(Create::Created(task))) => makers.push((n, task)),
                (_, Ok(Create::Exists(task))) => assert_eq!((task.run, task.attempt), (1, 1)),
                (_, Err(StoreError::Unavailable(_))) => is_untold = true,
                (_, other) => panic!("{other:?}"),
            }
        }
        untold += u32::from(is_untold);
        assert!(makers.len() <= 1 && (is_untold || makers.len() == 1), "{makers:?}");
        let row = loop {
            if let Ok(task) = stage.store.task(&key).await {
                break task;
            }
        };
        for (n, made) in makers {
            let row = row.as_ref().expect("it was told that it is made");
            assert_eq!((made.run, made.epoch, made.node.as_ref()), (1, row.epoch, Some(&nodes[n])));
        }
    }
    is_over.store(true, Ordering::Relaxed);
    println!("{} cuts; {untold} claims were told that it is not known", cutting.join().unwrap());
}

async fn create(store: &dyn Store, key: &Key) {
    let new = || soloist::NewTask::named(key.clone(), soloist::Json::null());
    while store.create(new(), Timestamp::from_micros(0)).await.is_err() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_told_at_once_and_found_again_when_it_is_back() {
    let stage = Stage::<Crashing>::new().await;
    let lease = stage.running("1").await;
    tokio::task::block_in_place(|| stage.harness.0.stop());
    // The first may find out by itself.
    let _ = stage.store.task(lease.key()).await;
    let begun = Instant::now();
    for _ in 0..100 {
        let Err(StoreError::Unavailable(why)) = stage.store.claim(stage.request(lease.key())).await else {
            panic!("the database is stopped")
        };
        assert!(
            !why.contains("s3cr3t") && why.contains("cannot connect to postgres://postgres@localhost"),
            "{why}"
        );
    }
    println!("100 claims were refused in {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(2));
    tokio::task::block_in_place(|| stage.harness.0.start_again());
    let begun = Instant::now();
    while stage.store.task(lease.key()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("it was found again after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(matches!(stage.append(&lease, 0, 1).await, Applied::Committed { .. }));
    assert_eq!(stage.nodes.renew(&stage.node), Renewal::Renewed);
}

/// A way to the database that can swallow everything, as a network does from which a cable was pulled.
pub(crate) struct Network {
    pub(crate) port: u16,
    pub(crate) is_cut: Arc<AtomicBool>,
    /// Milliseconds until a new connection is carried.
    delay: Arc<AtomicU64>,
}

impl Network {
    pub(crate) fn before_the_database() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (is_cut, delay) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let port = listener.local_addr().unwrap().port();
        let network = Self { port, is_cut: is_cut.clone(), delay: delay.clone() };
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let (is_cut, delay) = (is_cut.clone(), delay.load(Ordering::Relaxed));
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(delay));
                    let server = TcpStream::connect(Cluster::shared().address()).unwrap();
                    for (from, to) in
                        [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                    {
                        let is_cut = is_cut.clone();
                        thread::spawn(move || carry(from, to, &is_cut));
                    }
                });
            }
        });
        network
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if !is_cut.load(Ordering::Relaxed) && to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_notices_a_network_that_swallows_everything_while_there_is_time() {
    let network = Network::before_the_database();
    let way = format!("postgres://postgres@127.0.0.1:{}", network.port);
    let url = format!("{way}/{}?sslmode=disable", plain().name());
    let store = PgStore::open_with(&url, within(&schema())).await.unwrap();
    let lease = Duration::from_secs(10);
    let node = NewNode { id: NodeId::random(), lease, models: Vec::new(), at: Timestamp::now() };
    let mut heartbeat = store.join(node).await.unwrap();
    assert_eq!(heartbeat.renew(), Ok(Renewal::Renewed));
    network.is_cut.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let begun = Instant::now();
        assert!(matches!(heartbeat.renew(), Err(StoreError::Unavailable(_))));
        assert!(begun.elapsed() < lease / 5, "{:?}", begun.elapsed());
    }
    network.is_cut.store(false, Ordering::Relaxed);
    assert_eq!(heartbeat.renew(), Ok(Renewal::Renewed));
}

fn node(lease: Duration) -> NewNode {
    NewNode { id: NodeId::random(), lease, models: Vec::new(), at: Timestamp::now() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_comes_about_where_a_connection_takes_longer_than_a_renewal_may() {
    let stage = Stage::<Private>::new().await;
    let network = Network::before_the_database();
    let url =
        format!("postgres://postgres@127.0.0.1:{}/{}?sslmode=disable", network.port, stage.harness.0.name());
    let store = PgStore::open_with(&url, PgOptions::default()).await.unwrap();
    let lease = Duration::from_secs(10);
    let mut heartbeat = store.join(node(lease)).await.unwrap();
    assert_eq!(heartbeat.renew(), Ok(Renewal::Renewed));
    network.delay.store(1_500, Ordering::Relaxed);
    stage.harness.cut();
    assert!(matches!(heartbeat.renew(), Err(StoreError::Unavailable(_))), "it has a second");
    assert_eq!(heartbeat.renew(), Ok(Renewal::Renewed), "what was begun then is there now");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_go_past_a_pooler_that_is_stuck() {
    let network = Network::before_the_database();
    let url = format!("postgres://postgres@127.0.0.1:{}/{}?sslmode=disable", network.port, plain().name());
    let options = PgOptions { listen_url: Some(plain().url()), ..within(&schema()) };
    let store = PgStore::open_with(&url, options).await.unwrap();
    let mut heartbeat = store.join(node(Duration::from_secs(10))).await.unwrap();
    network.is_cut.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(heartbeat.renew(), Ok(Renewal::Renewed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_in_the_queue_and_whose_answer_is_lost_makes_one_run() {
    let stage = Stage::<Private>::new().await;
    let database = &stage.harness.0;
    let key = stage.pending("1").await;
    let network = Network::before_the_database();
    let url = format!("postgres://postgres@127.0.0.1:{}/{}?sslmode=disable", network.port, database.name());
    let far = PgStore::open_with(&url, PgOptions::default()).await.unwrap();
    let (locker, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    locker.batch_execute("BEGIN; LOCK TABLE soloist.signal").await.unwrap();
    let request = soloist::store::ClaimRequest { place: soloist::state::Place::Queue, ..stage.request(&key) };
    let start = tokio::spawn(async move { far.claim(request).await });
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while database.sql(waits) == "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It lands, its answer does not, and before it is sent again somebody has run what it has queued.
    network.is_cut.store(true, Ordering::Relaxed);
    locker.batch_execute("COMMIT").await.unwrap();
    while stage.task(&key).await.run == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (lease, _) = stage.next_queued().await.unwrap();
    stage.finish(&lease, 0, completed("1")).await;
    network.is_cut.store(false, Ordering::Relaxed);
    stage.harness.cut();
    let told = start.await.unwrap();
    assert!(matches!(&told, Ok(Claim::Finished(row)) if row.run == 1), "{told:?}");
    assert_eq!(stage.store.task(&key).await.unwrap().unwrap().run, 1);
}
