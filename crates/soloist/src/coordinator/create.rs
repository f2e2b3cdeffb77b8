//! The path of a create, and of one that starts its task as well.
//!
//! Decides: when create and start go to the store as one step: where neither brings an idempotency key, and the runs of the
//! model are not bounded over all nodes. What has come of it says the record that the step returns. A task that was there is
//! started as any other.
//!
//! Never decides whether the task is new, or whose its run is: the store does, in that step. Where its answer is lost, the
//! run may be ours on record and known to nobody here; the comparison with the record finds it, as after any claim.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{Inner, live::CreateUnderWay, node::Session};
use crate::{
    Error, Result, fault,
    lease::RunLease,
    state::{Place, Status},
    store::{FirstClaim, Won},
    task::{Create, Created, NewId, NewTask, Start, StartOptions},
};

/// What a create that starts its task brings to the store.
struct First {
    under_way: CreateUnderWay,
    session: Arc<Session>,
    slot: Option<OwnedSemaphorePermit>,
    claim: FirstClaim,
}

impl Inner {
    pub(super) async fn create(&self, task: NewTask) -> Result<Create> {
        let task = self.checked(task).await?;
        self.put(task).await
    }

    pub(super) async fn create_and_start(
        self: &Arc<Self>,
        task: NewTask,
        options: StartOptions,
    ) -> Result<Created> {
        let task = self.checked(task).await?;
        let inner = self.clone();
        // To its end, even if the caller goes away.
        let both = self.tasks.spawn(async move { inner.put_and_start(task, options).await });
        both.await.unwrap_or(Err(Error::Closed))
    }

    /// The task with what its model says of its runs, where it may be created.
    async fn checked(&self, task: NewTask) -> Result<NewTask> {
        self.check_open()?;
        task.check()?;
        let terms = match self.models.get(task.id.model_key()) {
            Some(model) => {
                model.runner.check(&task.input)?;
                model.options.terms
            }
            None => self.served_elsewhere(task.id.model_key()).await?,
        };
        Ok(task.under(terms))
    }

    async fn put(&self, task: NewTask) -> Result<Create> {
        fault::point("core:create-before");
        let created = self.store.create(task, self.clock.now()).await?;
        fault::point("core:create-after");
        Ok(created)
    }

    async fn put_and_start(self: &Arc<Self>, task: NewTask, options: StartOptions) -> Result<Created> {
        // A shutdown that has not seen it under way is seen here.
        self.check_open()?;
        let create = match self.first(&task, &options).await {
            Some(first) => match self.put_claimed(task, first).await? {
                (create, Some(start)) => return Ok(Created { create, start: Some(start) }),
                (create, None) => create,
            },
            None => self.put(task).await?,
        };
        let key = match &create {
            Create::Created(task) | Create::Exists(task) | Create::Replayed(task) => task.key.clone(),
            Create::Differs(_) | Create::ReplayedDeleted(_) | Create::KeyReused => {
                return Ok(Created { create, start: None });
            }
        };
        let start = self.start(&key, options).await;
        Ok(Created { create, start: Some(start) })
    }

    /// What the store is asked for beside a new task; none where the start is a step of its own, which also says why it is
    /// refused where it is.
    async fn first(&self, task: &NewTask, options: &StartOptions) -> Option<First> {
        // The session is given up only when nothing of it is under way.
        let (under_way, model) = (self.live.create(), task.id.model_key());
        let session = self.session();
        let is_bounded =
            self.models.get(model).is_some_and(|model| model.options.max_concurrent_total.is_some());
        let is_keyed = options.idempotency.is_some() || task.idempotency.is_some();
        // It is there, and its start needs no slot. A hint: the store decides.
        let is_active = matches!(&task.id, NewId::Named(key) if self.live.active(key).is_some());
        if is_keyed || is_bounded || is_active || !session.trusted() {
            return None;
        }
        let slot = self.slot(model).await.ok()?;
        let place = if slot.is_some() { Place::Here } else { Place::Queue };
        let claim = FirstClaim { node: session.node.clone(), place, trace: options.trace.clone() };
        Some(First { under_way, session, slot, claim })
    }

    /// Both in one step; no start where that is a step of its own.
    async fn put_claimed(
        self: &Arc<Self>,
        task: NewTask,
        first: First,
    ) -> Result<(Create, Option<Result<Start>>)> {
        let First { under_way, session, slot, claim } = first;
        let model = task.id.model_key().clone();
        fault::point("core:create-claimed-before");
        let create = self.store.create_claimed(task, claim, self.clock.now()).await;
        fault::point("core:create-claimed-after");
        let task = match &create {
            Ok(Create::Created(task)) if task.status != Status::Pending => task,
            _ => {
                self.not_used(&model, slot);
                return Ok((create?, None));
            }
        };
        let run = task.run;
        let start = match (task.status, slot) {
            (Status::Running, Some(slot)) if task.node.as_ref() == Some(&session.node) => {
                let (key, won) = (task.key.clone(), Won::of(task.clone()));
                let lease = RunLease::from_claim(key, session.node.clone(), &won);
                self.begin(session, lease, won.input, slot).first()
            }
            (Status::Queued, slot) => {
                self.queued(&model, slot.is_some());
                Ok(Start::Started { run })
            }
            // Its answer was lost and found again, and by then somebody has taken the run over, or ended it.
            _ => Ok(Start::Started { run }),
        };
        drop(under_way);
        Ok((create?, Some(start)))
    }
}
