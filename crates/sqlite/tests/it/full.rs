//! A disk without room: nothing is half done, everybody is told, and work goes on once there is room.

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use soloist::{
    Data, Store, Timestamp,
    event::NewEvent,
    lease::RunLease,
    limits,
    store::{Applied, StoreError},
};
use soloist_sqlite::SqliteStore;
use soloist_store_contract::{
    plain::{join, won},
    stage::{ALL, append, committed},
};

use crate::child;

/// The kernel itself refuses to let files of this process grow beyond a size, as a full disk would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_to_all_of_a_group_and_passes() {
    if let Some(path) = child::part() {
        play(SqliteStore::open(path).unwrap()).await;
        println!("played: to the end");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "full::a_full_disk_is_told_to_all_of_a_group_and_passes";
    let plain = child::command(test, &dir.path().join("a.db"));
    // A process is killed for growing a file too far unless it was started to be told instead.
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    shell.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdout(std::process::Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let played: Vec<String> = child::said(&mut child, "played:").collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(played, ["to the end"]);
}

async fn play(store: SqliteStore) {
    let (node, _beat) = join(&store).await;
    let leases = join_all((0..8).map(|_| won(&store, &node))).await;
    assert_eq!(write(&store, &leases[0], 0, 1).await, Ok(Applied::Committed { last_seq: 1 }));

    let room = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(512 << 10), maximum: room.maximum }).unwrap();
    // More than there is room for, in one group and in several.
    let refused = join_all(leases[1..].iter().map(|lease| write(&store, lease, 0, 1_000))).await;
    assert!(refused.iter().all(|answer| matches!(answer, Err(StoreError::Unavailable(_)))), "{refused:?}");
    for lease in &leases[1..] {
        assert_eq!(store.task(lease.key()).await.unwrap().unwrap().last_seq, 0);
        assert!(store.events(lease.key(), ALL).await.unwrap().is_empty());
    }
    assert_eq!(store.events(leases[0].key(), ALL).await.unwrap().len(), 1);

    setrlimit(Resource::Fsize, room).unwrap();
    let taken = join_all(leases[1..].iter().map(|lease| write(&store, lease, 0, 1_000))).await;
    for (lease, answer) in leases[1..].iter().zip(taken) {
        assert_eq!(committed(&answer.unwrap()), 1_000);
        assert_eq!(store.events(lease.key(), ALL).await.unwrap().len(), 1_000);
    }
}

async fn write(store: &SqliteStore, lease: &RunLease, after: u64, count: u64) -> Result<Applied, StoreError> {
    let text = "x".repeat(limits::EVENT_TYPE_MAX_BYTES * 8);
    let event = NewEvent::from_work("large", Data::Text(text.into()), Timestamp::now()).unwrap();
    let batch =
        (after + 1..=after + count).map(|seq| event.clone().at(seq, lease.run(), lease.epoch())).collect();
    store.apply(append(lease, after, batch)).await
}
