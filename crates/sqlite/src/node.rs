//! Nodes: how a process joins, stays alive, and is found dead.
//!
//! Decides: what is written of a node, and by whom. A node's lease is renewed on a connection of its own, which waits
//! for its turn among all writers and never behind this process's pipeline. Its clock is read when the write lock is
//! held, so that a wait for the lock is no time that the node is given. That a process is dead is told by its lock file
//! or by its lease; either way the death is one conditional write.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rusqlite::{Connection, OptionalExtension, named_params};
use soloist::{
    NodeId,
    clock::SharedBootClock,
    fault, limits,
    store::{Evidence, Heartbeat, NewNode, Renewal, Served, StoreResult},
};

use crate::{
    Durability,
    error::SqlResult,
    lock::{Identity, NodeLock, Turns},
    queries::int,
};

/// A boot clock, as SQLite keeps its time.
#[derive(Clone)]
pub(crate) struct Boot(pub(crate) SharedBootClock);

impl Boot {
    fn now_ms(&self) -> i64 {
        int(self.0.now().as_millis())
    }
}

/// What keeps a node alive.
pub(crate) struct Beat {
    conn: Connection,
    turns: Turns,
    boot: Boot,
    node: NodeId,
    /// How long it waits for its turn, which it does not need: a small part of the lease.
    most: Duration,
    lock: Option<NodeLock>,
}

impl Beat {
    pub(crate) fn new(conn: Connection, turns: Turns, boot: Boot, new: &NewNode, lock: NodeLock) -> Self {
        let most = limits::SQLITE_BEAT_TIMEOUT.min(new.lease / 10);
        Self { conn, turns, boot, node: new.id.clone(), most, lock: Some(lock) }
    }

    fn write<T>(&self, act: impl FnOnce(&Connection) -> SqlResult<T>) -> StoreResult<T> {
        let _turn = self.turns.take(self.most);
        let written = (|| {
            fault::point("sqlite:heartbeat-before");
            self.conn.execute_batch("BEGIN IMMEDIATE")?;
            fault::point("sqlite:heartbeat-begun");
            let done = act(&self.conn)?;
            fault::point("sqlite:heartbeat-row");
            self.conn.execute_batch("COMMIT")?;
            fault::point("sqlite:heartbeat-after");
            Ok(done)
        })();
        if !self.conn.is_autocommit() {
            // Fails only where SQLite has rolled back by itself.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
        written.map_err(|error: crate::error::SqlError| error.into())
    }
}

impl Heartbeat for Beat {
    fn renew(&mut self) -> StoreResult<Renewal> {
        let renewed = self.write(|conn| {
            let (boot, now) = (self.boot.0.boot_id(), self.boot.now_ms());
            let mut renew = conn.prepare_cached(include_str!("sql/renew.sql"))?;
            let params = named_params! { ":node": self.node.as_str(), ":boot": boot, ":now": now };
            Ok(renew.query_row(params, |_| Ok(())).optional()?)
        })?;
        Ok(if renewed.is_some() { Renewal::Renewed } else { Renewal::Dead })
    }

    fn leave(&mut self) -> StoreResult<()> {
        self.write(|conn| {
            let params = named_params! { ":node": self.node.as_str() };
            conn.prepare_cached(include_str!("sql/leave.sql"))?.execute(params)?;
            Ok(())
        })?;
        if let Some(lock) = self.lock.take() {
            lock.remove();
            fault::point("sqlite:leave-unlinked");
        }
        Ok(())
    }
}

/// Puts a node on record whose lock file is locked. False where living nodes have another durability.
pub(crate) fn join(
    conn: &Connection,
    node: &NewNode,
    lock: Identity,
    boot: &Boot,
    durability: Durability,
) -> SqlResult<bool> {
    let params = named_params! {
        ":node": node.id.as_str(), ":at": node.at.as_micros(), ":boot": boot.0.boot_id(),
        ":now": boot.now_ms(), ":lease": int(node.lease.as_millis()),
        ":device": lock.device, ":inode": lock.inode, ":relaxed": durability == Durability::Relaxed,
    };
    let mut join = conn.prepare_cached(include_str!("sql/join.sql"))?;
    if join.query_row(params, |_| Ok(())).optional()?.is_none() {
        return Ok(false);
    }
    fault::point("sqlite:join-row");
    let mut serve = conn.prepare_cached(include_str!("sql/serve.sql"))?;
    for Served { model, terms, .. } in &node.models {
        serve.execute(named_params! {
            ":app": model.app(), ":model": model.model(), ":node": node.id.as_str(),
            ":max_retries": terms.max_retries, ":timeout_seconds": terms.timeout_seconds,
            ":deadline_seconds": terms.deadline_seconds,
        })?;
        fault::point("sqlite:join-served");
    }
    Ok(true)
}

/// A node that may be dead.
pub(crate) struct Suspect {
    pub(crate) node: NodeId,
    /// Its lock, where its process has let go of it; held until the death is on record.
    pub(crate) lock: Option<NodeLock>,
}

/// The nodes that are worth a write. Reads, and tries locks.
pub(crate) fn suspects(
    conn: &Connection,
    database: &Arc<PathBuf>,
    evidence: Evidence,
    boot: &Boot,
) -> SqlResult<Vec<Suspect>> {
    let mut living = conn.prepare_cached(include_str!("sql/living.sql"))?;
    let mut rows = living.query(named_params! { ":boot": boot.0.boot_id(), ":now": boot.now_ms() })?;
    let mut suspects = Vec::new();
    while let Some(row) = rows.next()? {
        let node = NodeId::from_store(row.get_ref("id")?.as_str()?);
        let identity = Identity { device: row.get("lock_device")?, inode: row.get("lock_inode")? };
        let over: bool = row.get(if evidence == Evidence::Lease { "over" } else { "other_boot" })?;
        let lock = NodeLock::of_dead(database, &node, identity);
        if over || lock.is_some() {
            suspects.push(Suspect { node, lock });
        }
    }
    Ok(suspects)
}

/// Marks those dead that are. Returns which of them; their locks are let go once that is on disk.
pub(crate) fn bury(
    conn: &Connection,
    suspects: &[Suspect],
    evidence: Evidence,
    boot: &Boot,
) -> SqlResult<Vec<NodeId>> {
    let mut bury = conn.prepare_cached(include_str!("sql/bury.sql"))?;
    let mut buried = Vec::new();
    for Suspect { node, lock } in suspects {
        let params = named_params! {
            ":node": node.as_str(), ":free": lock.is_some(), ":lease": evidence == Evidence::Lease,
            ":boot": boot.0.boot_id(), ":now": boot.now_ms(),
        };
        if bury.query_row(params, |_| Ok(())).optional()?.is_some() {
            buried.push(node.clone());
            fault::point("sqlite:bury-row");
        }
    }
    Ok(buried)
}
