//! Idempotency keys whose time is over and whose task is gone.
//!
//! Decides: when they are looked for. Most keys that are old stay, since their tasks do, so that all of them are looked
//! through to find those that do not: page by page, on a connection that only reads, and once in a while. What is found is
//! compared anew by the statement that removes it.

use rusqlite::{Connection, named_params};
use soloist::{Timestamp, fault, limits};

use super::{int, tidy::before};
use crate::error::SqlResult;

/// Where a key stands in the order in which keys were used.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    used_at: i64,
    subject: String,
    call: String,
    target: String,
    key: String,
}

impl Place {
    /// Before all keys.
    fn first() -> Self {
        let empty = String::new;
        Self { used_at: i64::MIN, subject: empty(), call: empty(), target: empty(), key: empty() }
    }
}

/// One page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) gone: Vec<Place>,
    /// Its last key, where more may follow.
    pub(crate) last: Option<Place>,
}

/// How far this process has looked.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// None where no walk is under way.
    after: Option<Place>,
    begun_at: Option<Timestamp>,
}

impl Walk {
    /// From where to look now; None where it is too soon to begin again.
    pub(crate) fn next(&mut self, at: Timestamp) -> Option<Place> {
        if let Some(after) = self.after.take() {
            return Some(after);
        }
        let every = int(limits::IDEMPOTENCY_LOOK_EVERY.as_micros());
        // By the wall clock, which may have been set back.
        let is_soon = |begun_at: Timestamp| {
            at.as_micros().saturating_sub(begun_at.as_micros()).saturating_abs() < every
        };
        if self.begun_at.is_some_and(is_soon) {
            return None;
        }
        self.begun_at = Some(at);
        Some(Place::first())
    }

    /// A page was read, and ended here. True where there is more.
    pub(crate) fn read_to(&mut self, last: Option<Place>) -> bool {
        self.after = last;
        self.after.is_some()
    }
}

/// Reads the page of old keys after a place.
pub(crate) fn outlived(conn: &Connection, after: &Place, at: Timestamp) -> SqlResult<Page> {
    let mut query = conn.prepare_cached(include_str!("../sql/outlived.sql"))?;
    let mut found = query.query(named_params! {
        ":before": before(at, limits::IDEMPOTENCY_KEPT), ":limit": int(limits::TIDY_MAX_ROWS),
        ":used_at": after.used_at, ":subject": after.subject, ":call": after.call, ":target": after.target,
        ":key": after.key,
    })?;
    let (mut page, mut count) = (Page::default(), 0);
    while let Some(row) = found.next()? {
        count += 1;
        let (gone, is_last) = (row.get::<_, bool>("gone")?, count == limits::TIDY_MAX_ROWS);
        if !gone && !is_last {
            continue;
        }
        let place = Place {
            used_at: row.get("used_at")?,
            subject: row.get("subject")?,
            call: row.get("call")?,
            target: row.get("target")?,
            key: row.get("key")?,
        };
        page.last = is_last.then(|| place.clone());
        if gone {
            page.gone.push(place);
        }
    }
    Ok(page)
}

/// Removes what was found.
pub(crate) fn outlive(conn: &Connection, gone: &[Place], at: Timestamp) -> SqlResult<()> {
    let mut outlive = conn.prepare_cached(include_str!("../sql/outlive.sql"))?;
    for place in gone {
        outlive.execute(named_params! {
            ":subject": place.subject, ":call": place.call, ":target": place.target, ":key": place.key,
            ":before": before(at, limits::IDEMPOTENCY_KEPT),
        })?;
    }
    fault::point("sqlite:tidy-outlived");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::open;

    const DAY: i64 = 86_400_000_000;

    fn old_keys(conn: &Connection, count: usize, task: impl Fn(usize) -> usize) {
        for n in 0..count {
            conn.execute(
                "INSERT INTO idempotency (subject, call, target, key, digest, task, name, started, run, used_at)
                 VALUES ('', 'start', 'a/B/1', ?1, '', ?2, 'a/B/1', 1, 1, 0)",
                (n.to_string(), task(n)),
            )
            .unwrap();
        }
    }

    #[test]
    fn every_old_key_is_looked_at_in_pages_also_where_all_were_used_at_one_moment() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open::file(&dir.path().join("a.db")).unwrap();
        conn.execute_batch(
            "INSERT INTO task (number, app, model, id, created_at, updated_at) VALUES (1, 'a', 'B', '1', 0, 0)",
        )
        .unwrap();
        let count = 2 * limits::TIDY_MAX_ROWS + 1;
        old_keys(&conn, count, |n| if n % 3 == 0 { 2 } else { 1 });
        let at = Timestamp::from_micros(2 * DAY);
        let (mut walk, mut pages, mut gone) = (Walk::default(), 0, 0);
        while let Some(after) = walk.next(at) {
            let page = outlived(&conn, &after, at).unwrap();
            outlive(&conn, &page.gone, at).unwrap();
            (pages, gone) = (pages + 1, gone + page.gone.len());
            walk.read_to(page.last);
        }
        assert_eq!((pages, gone), (3, count.div_ceil(3)));
        let left = |of: &str| {
            let sql = format!("SELECT count(*) FROM idempotency WHERE task {of} 1");
            conn.query_row(&sql, [], |row| row.get::<_, usize>(0)).unwrap()
        };
        assert_eq!((left("="), left("<>")), (count - count.div_ceil(3), 0));
    }

    #[test]
    fn a_key_is_removed_only_where_its_time_is_over_and_its_task_gone_in_that_very_moment() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open::file(&dir.path().join("a.db")).unwrap();
        old_keys(&conn, 1, |_| 1);
        let page = outlived(&conn, &Place::first(), Timestamp::from_micros(2 * DAY)).unwrap();
        assert_eq!(page.gone.len(), 1);
        let left =
            || conn.query_row("SELECT count(*) FROM idempotency", [], |row| row.get::<_, i64>(0)).unwrap();
        outlive(&conn, &page.gone, Timestamp::from_micros(DAY)).unwrap();
        assert_eq!(left(), 1);
        outlive(&conn, &page.gone, Timestamp::from_micros(DAY + 1)).unwrap();
        assert_eq!(left(), 0);
    }

    #[test]
    fn keys_are_looked_through_again_after_a_while_and_not_before() {
        let mut walk = Walk::default();
        let at = |after: Duration| Timestamp::from_micros(DAY + int(after.as_micros()));
        let every = limits::IDEMPOTENCY_LOOK_EVERY;
        assert!(walk.next(at(Duration::ZERO)).is_some());
        assert!(walk.read_to(Some(Place::first())));
        assert!(walk.next(at(Duration::ZERO)).is_some(), "the same walk goes on");
        assert!(!walk.read_to(None));
        assert!(walk.next(at(every / 2)).is_none());
        assert!(walk.next(at(every)).is_some());
        assert!(!walk.read_to(None));
        assert!(walk.next(Timestamp::from_micros(0)).is_some(), "the clock was set back");
    }
}
