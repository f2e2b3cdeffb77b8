//! The slots of models whose runs are bounded over all nodes.
//!
//! Decides: when they are made: by a node that joins, and by the first claim here that names a higher bound than any before.
//! Never decides who has one; the claims do.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use soloist::{ModelKey, fault};

use super::small;
use crate::{
    db::{Db, Fate},
    error::SqlResult,
    sql::args,
};

/// Up to which bound this process knows the slots of a model to be there.
#[derive(Default)]
pub(crate) struct Slots(Mutex<HashMap<ModelKey, u32>>);

impl Slots {
    fn known(&self, model: &ModelKey) -> u32 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(model).copied().unwrap_or_default()
    }

    fn learn(&self, model: &ModelKey, max_total: u32) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let up_to = known.entry(model.clone()).or_default();
        *up_to = max_total.max(*up_to);
    }
}

/// Makes the slots that these models lack as far as is known here.
pub(crate) async fn make_lacking(
    db: &Db,
    models: impl Iterator<Item = (&ModelKey, Option<u32>)>,
) -> SqlResult<()> {
    make(db, models.filter(|(model, max_total)| max_total.is_some_and(|max| db.slots.known(model) < max)))
        .await
}

/// Makes the slots of these models, whatever is known: a database that has failed over to a copy which was behind may have
/// lost some, and then the nodes join again.
pub(crate) async fn make(db: &Db, models: impl Iterator<Item = (&ModelKey, Option<u32>)>) -> SqlResult<()> {
    let bounded: Vec<_> = models.filter_map(|(model, max_total)| Some((model, max_total?))).collect();
    if bounded.is_empty() {
        return Ok(());
    }
    let apps: Vec<&str> = bounded.iter().map(|(model, _)| model.app()).collect();
    let models: Vec<&str> = bounded.iter().map(|(model, _)| model.model()).collect();
    let max_totals: Vec<i32> = bounded.iter().map(|(_, max_total)| small(*max_total)).collect();
    let args =
        args! { apps: TEXT_ARRAY = apps, models: TEXT_ARRAY = models, max_totals: INT4_ARRAY = max_totals };
    fault::point("postgres:slots-before");
    db.write(Fate::Repeat, &db.sql.slots, args).await?;
    fault::point("postgres:slots-after");
    for (model, max_total) in bounded {
        db.slots.learn(model, max_total);
    }
    Ok(())
}
