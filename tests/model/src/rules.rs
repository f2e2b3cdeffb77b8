//! The rules that can be broken, one at a time, to see that the model would have found it.

/// A rule that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// A claim writes what it has computed from the row that it has read before.
    ClaimIsCheckThenAct,
    /// A claim that is sent again does not look whether it was carried out.
    ResentClaimBeginsAnew,
    /// An idempotency key is looked up in a step of its own, before the claim.
    KeyIsReadBeforeTheClaim,
    /// A claim of a node that is dead on record wins.
    DeadNodeClaims,
    /// What the store says a node holds is not compared with what it runs.
    LateClaimIsForgotten,
    /// The epoch of a write is compared with a row that was read before.
    FenceIsARead,
    /// The ending of a run is written without its epoch.
    FinishWithoutEpoch,
    /// Whoever takes a run from its holder leaves its epoch as it is.
    TakeoverKeepsTheEpoch,
    /// A takeover does not compare the row with what it has seen.
    TakeoverWithoutCompare,
    /// A run is taken over because the lease of its node, read before, looks over.
    DeathIsARead,
    /// Only the runs of nodes that were buried just now are looked at.
    OrphansAreLookedForOnce,
    /// A node counts its lease from the answer to its heartbeat.
    LeaseCountsFromTheAnswer,
    /// The heartbeat of a node that is dead on record is taken.
    DeadNodeRenews,
    /// A batch that is sent again is not recognised.
    ResentBatchIsNew,
    /// Starts are answered from memory also when an ending of the run is on its way.
    MemoryAnswersAfterTheEnding,
    /// Starts are answered from memory also where the lease may be over.
    MemoryAnswersBeyondTrust,
    /// A run that is taken up is begun, whether the lease of its node can be trusted or not.
    WorkBeginsBeyondTrust,
}

impl Broken {
    /// Whether what is refused for its epoch is refused for ever, all the same.
    pub fn fences_by_epoch(self) -> bool {
        !matches!(
            self,
            Self::TakeoverWithoutCompare
                | Self::FenceIsARead
                | Self::FinishWithoutEpoch
                | Self::ResentBatchIsNew
                | Self::ClaimIsCheckThenAct
        )
    }

    /// Whether a claim wins only the run after the one that it has seen, all the same.
    pub fn counts_runs(self) -> bool {
        !matches!(
            self,
            Self::ClaimIsCheckThenAct | Self::ResentClaimBeginsAnew | Self::KeyIsReadBeforeTheClaim
        )
    }
}
