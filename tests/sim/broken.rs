//! Stores that break a rule, so that it is known whether the judge would notice.

use soloist::{
    Event,
    store::{Applied, Change, Claim, Current, Transition, Won, Writer},
};

/// One rule that a store does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// An event of an old epoch is taken in where the task has another holder by now.
    OldEpochWrites,
    /// A claim that finds the task running believes that it has won: what it had checked was true once.
    CheckThenAct,
    /// A write is answered before it is done, so that others are shown what is not on record.
    AnswerBeforeCommit,
    /// A run goes back into the queue under the epoch of the node that it was taken from.
    RequeueKeepsEpoch,
    /// A signal in three is not on record, and its number is.
    SignalsWithGaps,
    /// A node is buried while its lease is good.
    DeathTooEarly,
    /// An ending that is sent again after a lost answer is written again.
    EndsTwice,
    /// A key that was used is not remembered.
    ForgetsKeys,
}

impl Broken {
    pub(crate) const ALL: [Self; 8] = [
        Self::OldEpochWrites,
        Self::CheckThenAct,
        Self::AnswerBeforeCommit,
        Self::RequeueKeepsEpoch,
        Self::SignalsWithGaps,
        Self::DeathTooEarly,
        Self::EndsTwice,
        Self::ForgetsKeys,
    ];
}

/// The claim that this one takes itself for.
pub(crate) fn believes_to_have_won(row: &Current, task: soloist::Task) -> Claim {
    Claim::Won(Won {
        run: row.run,
        attempt: row.attempt,
        epoch: row.epoch,
        last_seq: row.last_seq,
        started_at: row.started_at.unwrap_or(task.created_at),
        retry_count: row.retry_count,
        terms: task.terms(),
        losses: row.losses,
        input: task.input,
        trace: None,
    })
}

/// A write as it would be accepted, whoever sent it.
pub(crate) fn under_the_present_epoch(transition: &Transition, answer: &Applied) -> Option<Transition> {
    let Applied::Fenced(Some(row)) = answer else { return None };
    let Writer::Holder { events, .. } = &transition.writer else { return None };
    if !row.status.is_held() || transition.change != Change::Append {
        return None;
    }
    let events = events.iter().zip(row.last_seq + 1..).map(|(event, seq)| Event {
        seq,
        epoch: row.epoch,
        run: row.run,
        ..event.clone()
    });
    let writer = Writer::Holder {
        node: row.node.clone()?,
        epoch: row.epoch,
        events: events.collect(),
        after: row.last_seq,
    };
    Some(Transition { writer, epoch_after: row.epoch, ..transition.clone() })
}
