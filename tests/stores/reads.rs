//! What is read page by page: the same pages from each store, and together all that there is.

use proptest::prelude::*;
use soloist::{
    Status, Store, TaskFilter,
    store::{EventRange, StoreResult},
};

use super::{TASKS, World};

/// Whose a task is; every other one is nobody's.
pub(super) fn owner(task: usize) -> Option<&'static str> {
    [None, Some("ann"), None, Some("bob")][task % TASKS]
}

impl World<'_> {
    /// Logs, signals and lists in pages of several sizes.
    pub(super) async fn compare_pages(&self) -> Result<(), TestCaseError> {
        for task in 0..TASKS {
            let key = self.key(task);
            let record = self.ask("record", |store| {
                let key = key.clone();
                async move { store.task(&key).await }
            });
            let Some(record) = record.await? else { continue };
            // Bounds that data of an append (14 and 11 bytes) meet exactly are among them.
            for (max_events, max_bytes) in [(1, usize::MAX), (2, 20), (1_000, 1), (1_000, 14), (1_000, 25)] {
                let until = if max_events == 2 { record.last_seq / 2 } else { u64::MAX };
                let pages = self.ask("pages of a log", |store| {
                    let key = key.clone();
                    async move {
                        let (mut pages, mut after) = (Vec::new(), 0);
                        loop {
                            let range = EventRange { after, until, max_events, max_bytes };
                            let page: Vec<u64> =
                                store.events(&key, range).await?.iter().map(|event| event.seq).collect();
                            let Some(last) = page.last() else { return Ok(pages) };
                            after = *last;
                            pages.push(page);
                        }
                    }
                });
                let pages = pages.await?;
                prop_assert!(pages.iter().all(|page| page.len() <= max_events), "{:?}", pages);
                let read = pages.concat();
                let first = read.first().copied().unwrap_or(1);
                let newest = record.last_seq.min(until);
                prop_assert!(read.is_empty() || read == (first..=newest).collect::<Vec<_>>(), "{:?}", pages);
            }
            self.ask("pages of signals", |store| {
                let (key, run) = (key.clone(), record.run.max(1));
                async move {
                    let mut signals = Vec::new();
                    loop {
                        let after = signals.len() as u64;
                        let page = store.signals(&key, run, after, 2).await?;
                        if page.is_empty() {
                            return Ok(signals);
                        }
                        signals.extend(page);
                    }
                }
            })
            .await?;
        }
        let mut found = 0;
        let statuses = Status::ALL.into_iter().map(Some);
        for status in std::iter::once(None).chain(statuses) {
            for (owner, limit) in [(None, 1), (None, 3), (Some("ann"), 2), (Some("nobody"), 1)] {
                let filter = TaskFilter {
                    app: Some("p".into()),
                    model: Some(self.model.model().into()),
                    status,
                    owner: owner.map(str::to_owned),
                    limit,
                    before: None,
                };
                let listed = self.ask("list", |store| list(store, filter.clone())).await?;
                if (owner, limit) == (None, 1) {
                    found += if status.is_none() { 0 } else { listed.len() };
                }
                prop_assert!(owner != Some("nobody") || listed.is_empty());
                prop_assert!(listed.iter().all(|page| page.len() <= limit), "{:?}", listed);
            }
        }
        let mut there = 0;
        for task in 0..TASKS {
            there += usize::from(self.row(task).await?.is_some());
        }
        prop_assert_eq!(found, there, "each task stands in the list of one status");
        Ok(())
    }
}

/// All pages of a list, the keys of each.
async fn list(store: std::sync::Arc<dyn Store>, mut filter: TaskFilter) -> StoreResult<Vec<Vec<String>>> {
    let mut pages = Vec::new();
    loop {
        let page = store.list(filter.clone()).await?;
        if !page.tasks.is_empty() {
            pages.push(page.tasks.iter().map(|task| task.key.to_string()).collect());
        }
        match page.next_cursor {
            Some(cursor) => filter.before = Some(cursor),
            None => return Ok(pages),
        }
    }
}
