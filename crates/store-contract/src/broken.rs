//! A store whose start race is lost on purpose, to show that a race test can fail.
//!
//! Decides: nothing well. It claims as many programs do: look whether the task runs, then set it running.

use std::sync::Arc;

use async_trait::async_trait;
use soloist::{
    Policy, RunTerms, Store,
    store::{Claim, ClaimRequest, Current, StoreResult, Won, guard},
};

use crate::line::Between;

/// A store that checks and then acts: whoever saw a startable task believes that it has won it.
pub struct CheckThenAct(pub Arc<dyn Store>);

#[async_trait]
impl Between for CheckThenAct {
    fn store(&self) -> &dyn Store {
        &*self.0
    }

    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        let seen = self.0.task(&request.key).await?;
        let row = seen.as_ref().map(Current::from);
        if let Some(lost) = guard::lost_claim(row, request.policy, request.after, true) {
            return Ok(lost);
        }
        let seen = seen.expect("a task that is not there is no winner");
        // Between the check and the act others get their turn: the network, a lock, another thread.
        tokio::task::yield_now().await;
        let (at, trace) = (request.at, request.trace.clone());
        // What the record says by now is not looked at, as in an unconditional `UPDATE ... SET status = 'running'`.
        self.0.claim(ClaimRequest { policy: Policy::Restart, ..request }).await?;
        Ok(Claim::Won(Won {
            run: seen.following_run(),
            attempt: 1,
            epoch: seen.epoch.next(),
            last_seq: seen.last_seq,
            started_at: at,
            retry_count: 0,
            terms: RunTerms { max_retries: seen.max_retries, ..RunTerms::default() },
            losses: seen.losses,
            input: seen.input,
            trace,
        }))
    }
}
