//! Who may know whom. "The core knows no HTTP" is a missing line in its manifest.

use std::{collections::BTreeMap, fs};

/// Each crate with those of ours that it may depend on.
const OURS: [(&str, &[&str]); 11] = [
    ("soloist", &[]),
    ("store-contract", &["soloist"]),
    ("sqlite", &["soloist"]),
    ("postgres", &["soloist"]),
    ("test-postgres", &[]),
    ("runners", &["soloist", "soloist-wire"]),
    ("wire", &[]),
    ("server", &["soloist", "soloist-wire"]),
    ("client", &["soloist-wire"]),
    ("bench", &["soloist-wire"]),
    (
        "cli",
        &[
            "soloist",
            "soloist-bench",
            "soloist-client",
            "soloist-postgres",
            "soloist-runners",
            "soloist-server",
            "soloist-sqlite",
            "soloist-wire",
        ],
    ),
];

const HTTP: &[&str] =
    &["axum", "http", "http-body", "http-body-util", "hyper", "hyper-util", "reqwest", "tower"];
/// Beside HTTP, it belongs to those who connect to something.
const TLS: &[&str] = &["rustls"];
const SQL: &[&str] = &["rusqlite", "sqlx", "postgres", "tokio-postgres", "diesel"];

/// Crates of others that a crate may not depend on.
const NEVER: [(&str, &[&[&str]]); 10] = [
    ("soloist", &[HTTP, TLS, SQL]),
    ("store-contract", &[HTTP, TLS, SQL]),
    ("sqlite", &[HTTP, TLS, &["tokio-postgres"]]),
    ("postgres", &[HTTP, &["rusqlite"]]),
    ("test-postgres", &[HTTP, TLS, SQL]),
    ("runners", &[SQL, &["axum"]]),
    ("wire", &[HTTP, TLS, SQL, &["tokio"]]),
    ("server", &[SQL, &["reqwest"]]),
    ("client", &[SQL, &["axum"]]),
    ("bench", &[HTTP, TLS, SQL, &["tokio"]]),
];

fn dependencies() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(xtask::root().join("crates")).unwrap().flatten() {
        let Ok(text) = fs::read_to_string(entry.path().join("Cargo.toml")) else { continue };
        let manifest: toml::Table = text.parse().unwrap();
        let names = ["dependencies", "build-dependencies"]
            .iter()
            .filter_map(|kind| manifest.get(*kind)?.as_table())
            .flat_map(|table| table.keys().cloned())
            .collect();
        found.insert(entry.file_name().to_string_lossy().into_owned(), names);
    }
    found
}

#[test]
fn every_crate_depends_only_on_those_below_it() {
    let dependencies = dependencies();
    let known: Vec<_> = OURS.iter().map(|(name, _)| name.to_string()).collect();
    for (name, dependencies) in &dependencies {
        let Some((_, allowed)) = OURS.iter().find(|(known, _)| known == name) else {
            panic!(
                "the crate {name} is new: say in xtask/tests/it/direction.rs what it may depend on; known are {known:?}"
            )
        };
        for ours in dependencies.iter().filter(|d| *d == "soloist" || d.starts_with("soloist-")) {
            assert!(allowed.contains(&ours.as_str()), "crates/{name} may not depend on {ours}");
        }
    }
    assert_eq!(dependencies.len(), OURS.len(), "a crate of the table is gone: {:?}", dependencies.keys());
}

#[test]
fn the_core_knows_no_http_and_no_sql_and_others_only_their_own_trade() {
    let dependencies = dependencies();
    for (name, never) in NEVER {
        for dependency in &dependencies[name] {
            let is_forbidden = never.iter().any(|group| group.contains(&dependency.as_str()));
            assert!(!is_forbidden, "crates/{name} may not depend on {dependency}");
        }
    }
    // memchr: a frame of thousands of bytes is not looked at byte by byte.
    let allowed = ["memchr", "serde", "serde_json"];
    assert_eq!(dependencies["wire"], allowed, "the wire is serde, a search for bytes, and nothing else");
}
