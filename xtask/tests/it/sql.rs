//! A query is a file, and says at its top what a reader must know to check it.

use std::collections::BTreeSet;

/// What a header says, line by line, after the name.
const FIELDS: [&str; 4] = ["-- called by  ", "-- guard      ", "-- returns    ", "-- atomic     "];

#[test]
fn every_query_says_who_calls_it_what_it_guards_and_what_is_atomic() {
    let mut queries = 0;
    for (path, text) in
        xtask::texts().iter().filter(|(path, _)| path.ends_with(".sql") && path.contains("/sql/"))
    {
        let name = path.rsplit('/').next().unwrap().trim_end_matches(".sql");
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        assert!(
            first.starts_with(&format!("-- {name}: ")),
            "{path} begins with \"-- {name}: \" and what it does"
        );
        let header: Vec<_> = lines.take_while(|line| line.starts_with("--")).collect();
        let mut wanted = FIELDS.iter();
        let mut next = wanted.next();
        for line in &header {
            match next {
                Some(field) if line.starts_with(field) => next = wanted.next(),
                // A field may go on in the next line.
                _ => assert!(
                    line.starts_with("--            "),
                    "{path}: {line:?} is none of {FIELDS:?} in their order"
                ),
            }
        }
        assert_eq!(next, None, "{path}: its header ends early");
        queries += 1;
    }
    assert!(queries > 0, "no query was found");
}

/// Queries that one dialect has alone, and why.
const ALONE: [(&str, &str, &str); 22] = [
    ("sqlite", "assign", "create.sql assigns the id in the statement that uses it"),
    ("sqlite", "dead", "the lock files of dead nodes are removed before their rows"),
    ("sqlite", "deleted", "delete.sql remembers in its own statement what is to be cleared away"),
    ("sqlite", "entomb", "the row of a deleted task is its own tombstone"),
    (
        "sqlite",
        "event",
        "the events of a group are written by the statement that moves the ends of their logs",
    ),
    ("sqlite", "input", "create.sql keeps the input in its own statement"),
    ("sqlite", "notify", "cancel.sql and signal.sql tell the holder in their own statement"),
    (
        "sqlite",
        "outlived",
        "what may be forgotten is looked for by a reader, so that the one writer is not held up by a million keys",
    ),
    ("sqlite", "retire", "forget.sql removes all of a node in one statement"),
    ("sqlite", "revive", "the row of a deleted task becomes the new task"),
    ("sqlite", "serve", "join.sql puts a node and its models on record in one statement"),
    ("sqlite", "silence", "finish.sql removes the signals in its own statement"),
    (
        "postgres",
        "active_many",
        "many looks are one statement where each statement is a trip over the network",
    ),
    (
        "postgres",
        "claim_keyed",
        "a key is kept in the statement that it guards, as there is no transaction around both",
    ),
    (
        "postgres",
        "claim_many",
        "claims share a statement, and its commit; SQLite's share the commit of a transaction",
    ),
    ("postgres", "clamp", "only the clock of a database is set back under nodes that live on"),
    ("postgres", "create_keyed", "a key is kept in the statement that it guards, as in claim_keyed.sql"),
    ("postgres", "create_many", "creates share a statement, and its commit, as claims do"),
    (
        "postgres",
        "others",
        "two nodes may join at one moment, so each looks for others once it is there; SQLite's take turns",
    ),
    ("postgres", "rows", "many rows are one statement where each statement is a trip over the network"),
    (
        "postgres",
        "slots",
        "nodes claim at one moment, so each takes the lock of a slot; SQLite's take turns, and count what runs",
    ),
    ("postgres", "task_many", "records are read together, as active_many.sql says"),
];

#[test]
fn the_dialects_call_the_same_query_by_the_same_name() {
    let texts = xtask::texts();
    let names = |dialect: &str| -> BTreeSet<String> {
        let dir = format!("crates/{dialect}/src/sql/");
        let files = texts.iter().filter_map(|(path, _)| path.split_once(&dir)?.1.strip_suffix(".sql"));
        files.map(str::to_owned).collect()
    };
    let (sqlite, postgres) = (names("sqlite"), names("postgres"));
    assert!(sqlite.len() > 30 && postgres.len() > 30, "{sqlite:?} {postgres:?}");
    for (dialect, own, other) in [("sqlite", &sqlite, &postgres), ("postgres", &postgres, &sqlite)] {
        let alone: BTreeSet<_> = own.difference(other).map(String::as_str).collect();
        let listed = ALONE.iter().filter(|(of, ..)| *of == dialect).map(|(_, name, _)| *name).collect();
        assert_eq!(
            alone, listed,
            "queries that crates/{dialect} has alone are listed in xtask/tests/it/sql.rs with why"
        );
    }
}
