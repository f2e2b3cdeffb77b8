//! The queries that write, but for what a run says of itself (see `apply`).
//!
//! Decides: nothing; where the one statement that decides matched no row, `active.sql` is read under the same write
//! lock and tells why.

use rusqlite::{Connection, OptionalExtension, named_params};
use soloist::{
    Delete, Epoch, Json, Key, NewId, NewTask, NodeId, Task, Timestamp, limits,
    state::Policy,
    store::{Claim, ClaimRequest, Signalled, Won, guard},
};

use super::{int, read};
use crate::{
    error::{SqlError, SqlResult},
    rows,
};

/// What became of a create.
pub(crate) enum Created {
    /// The task is new.
    New(Task),
    /// One of that key was there.
    There(Task),
}

pub(crate) fn join(conn: &Connection, node: &NodeId, at: Timestamp) -> SqlResult<()> {
    let node = node.as_str();
    conn.prepare_cached(include_str!("../sql/join.sql"))?
        .execute(named_params! { ":node": node, ":at": at.as_micros() })?;
    conn.prepare_cached(include_str!("../sql/bury.sql"))?.execute(named_params! { ":node": node })?;
    conn.prepare_cached(include_str!("../sql/forget.sql"))?.execute([])?;
    Ok(())
}

pub(crate) fn create(conn: &Connection, new: &NewTask, at: Timestamp) -> SqlResult<Created> {
    let (key, number) = match &new.id {
        NewId::Named(key) => (key.clone(), insert(conn, key, new, at)?),
        NewId::Assigned(model_key) => loop {
            let id: i64 = conn
                .prepare_cached(include_str!("../sql/assign.sql"))?
                .query_row(named_params! { ":app": model_key.app(), ":model": model_key.model() }, |row| {
                    row.get(0)
                })?;
            let key = model_key.with_id(&id.to_string()).expect("a decimal number is a valid id");
            if let Some(number) = insert(conn, &key, new, at)? {
                break (key, Some(number));
            }
        },
    };
    if let Some(number) = number {
        conn.prepare_cached(include_str!("../sql/input.sql"))?
            .execute(named_params! { ":task": number, ":input": new.input.as_str() })?;
    }
    let task = read::task(conn, &key)?
        .ok_or_else(|| SqlError::Corrupt(format!("{key} is on record without its input")))?;
    Ok(if number.is_some() { Created::New(task) } else { Created::There(task) })
}

fn insert(conn: &Connection, key: &Key, new: &NewTask, at: Timestamp) -> SqlResult<Option<i64>> {
    let mut create = conn.prepare_cached(include_str!("../sql/create.sql"))?;
    let params = named_params! {
        ":app": key.app(), ":model": key.model(), ":id": key.id(),
        ":owner": new.owner, ":at": at.as_micros(),
    };
    Ok(create.query_row(params, |row| row.get(0)).optional()?)
}

pub(crate) fn claim(conn: &Connection, request: &ClaimRequest) -> SqlResult<Claim> {
    let key = &request.key;
    let mut claim = conn.prepare_cached(include_str!("../sql/claim.sql"))?;
    let mut claimed = claim.query(named_params! {
        ":app": key.app(), ":model": key.model(), ":id": key.id(), ":node": request.node.as_str(),
        ":restart": request.policy == Policy::Restart, ":at": request.at.as_micros(),
    })?;
    if let Some(row) = claimed.next()? {
        return Ok(Claim::Won(Won {
            run: row.get("run")?,
            attempt: row.get("attempt")?,
            epoch: Epoch(row.get("epoch")?),
            last_seq: row.get("last_seq")?,
            started_at: Timestamp::from_micros(row.get("started_at")?),
            input: Json::from_store(row.get_ref("input")?.as_str()?),
        }));
    }
    let row = read::active(conn, key, Some(&request.node))?;
    let alive = row.as_ref().is_some_and(|row| row.alive);
    guard::lost_claim(row.map(|row| row.current), request.policy, alive).ok_or_else(|| {
        SqlError::Corrupt(format!("{key} is startable on record, and yet its claim matched no row"))
    })
}

pub(crate) fn delete(conn: &Connection, key: &Key) -> SqlResult<Delete> {
    let gone: Option<i64> = conn
        .prepare_cached(include_str!("../sql/delete.sql"))?
        .query_row(named_params! { ":app": key.app(), ":model": key.model(), ":id": key.id() }, |row| {
            row.get(0)
        })
        .optional()?;
    Ok(match gone {
        Some(_) => Delete::Deleted,
        None => {
            read::active(conn, key, None)?.map_or(Delete::Missing, |row| Delete::Active(row.current.status))
        }
    })
}

pub(crate) fn signal(
    conn: &Connection,
    key: &Key,
    name: &str,
    data: &Json,
    at: Timestamp,
) -> SqlResult<Signalled> {
    let mut signal = conn.prepare_cached(include_str!("../sql/signal.sql"))?;
    let mut recorded = signal.query(named_params! {
        ":app": key.app(), ":model": key.model(), ":id": key.id(), ":name": name, ":data": data.as_str(),
        ":at": at.as_micros(), ":max": int(limits::SIGNALS_MAX_PER_RUN),
    })?;
    if let Some(row) = recorded.next()? {
        return rows::recorded(row);
    }
    Ok(match read::active(conn, key, None)?.map(|row| row.current.status) {
        None => Signalled::Missing,
        Some(status) if status.is_finished() => Signalled::NotRunning(status),
        Some(_) => Signalled::Full,
    })
}

#[cfg(test)]
mod tests {
    use soloist::Status;

    use super::*;
    use crate::open;

    /// `claim.sql` by itself, without the snapshot that spares most losers the write lock: every status, policy and
    /// claimer (alive, dead, never joined), answered as the guard says.
    #[test]
    fn s1_the_claim_statement_alone_answers_every_row_as_the_guard_says() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open::file(&dir.path().join("a.db")).unwrap();
        let at = Timestamp::from_micros(0);
        let [dead, alive, gone] = [NodeId::random(), NodeId::random(), NodeId::random()];
        conn.execute("INSERT INTO node VALUES (?1, 0, 1), (?2, 0, 0)", [dead.as_str(), alive.as_str()])
            .unwrap();
        for status in Status::ALL {
            for policy in [Policy::Restart, Policy::Once] {
                for node in [&dead, &gone, &alive] {
                    let key: Key = format!("a/B/{status}-{policy:?}-{node}").parse().unwrap();
                    let new = NewTask::named(key.clone(), Json::null());
                    create(&conn, &new, at).unwrap();
                    let holder = status.is_held().then_some(dead.as_str());
                    conn.execute(
                        "UPDATE task SET status = ?1, node = ?2, run = 4, epoch = 6, last_seq = 9 WHERE id = ?3",
                        (status.as_str(), holder, key.id()),
                    )
                    .unwrap();
                    let row = read::active(&conn, &key, Some(node)).unwrap().unwrap();
                    assert_eq!(row.alive, node == &alive);
                    let expected = guard::lost_claim(Some(row.current), policy, node == &alive);
                    let request = ClaimRequest { key: key.clone(), node: node.clone(), policy, at };
                    let answer = claim(&conn, &request).unwrap();
                    match (&expected, &answer) {
                        (None, Claim::Won(won)) => {
                            assert_eq!((won.run, won.epoch, won.last_seq), (5, Epoch(7), 9))
                        }
                        (Some(expected), answer) => {
                            assert_eq!(format!("{answer:?}"), format!("{expected:?}"), "{key}")
                        }
                        (None, lost) => panic!("{key}: {lost:?} where the guard lets it win"),
                    }
                }
            }
        }
    }
}
