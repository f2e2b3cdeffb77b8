//! A race test that cannot fail proves nothing: here the suite's own meets a store that checks and then acts.

use std::sync::Arc;

use async_trait::async_trait;
use soloist::{MemoryStore, Store};
use soloist_store_contract::{Harness, ManualBootClock, broken::CheckThenAct, claim, line::Line};

struct Broken(MemoryStore);

#[async_trait]
impl Harness for Broken {
    async fn fresh() -> Self {
        Self(MemoryStore::new())
    }

    async fn open(&self, clock: ManualBootClock) -> Arc<dyn Store> {
        Arc::new(Line(CheckThenAct(Arc::new(self.0.clone().with_boot_clock(clock)))))
    }
}

#[tokio::test]
async fn s1_the_race_of_pending_tasks_fails_on_a_store_that_checks_and_then_acts() {
    expect_two_winners(tokio::spawn(claim::s1_a_claim_has_one_winner_among_256::<Broken>())).await;
}

#[tokio::test]
async fn s1_the_race_of_finished_tasks_fails_on_a_store_that_checks_and_then_acts() {
    expect_two_winners(tokio::spawn(claim::s1_a_restart_has_one_winner_among_256::<Broken>())).await;
}

async fn expect_two_winners(race: tokio::task::JoinHandle<()>) {
    let panic = race.await.expect_err("the race must fail").into_panic();
    let message = panic.downcast::<String>().expect("an assertion has a text");
    assert!(message.contains("one of 256 concurrent claims"), "{message}");
}
