//! Fault points: what is listed stands in the sources, and what stands there is listed.

use std::collections::BTreeSet;

const LIST: &str = "crates/soloist/src/fault.rs";
const CRATES: [&str; 3] = ["core", "sqlite", "postgres"];

/// The words in quotes that are names of fault points, of the form `crate:verb-step`.
fn names(text: &str) -> BTreeSet<String> {
    let is_name = |word: &&str| {
        word.split_once(':').is_some_and(|(of, step)| {
            let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
            CRATES.contains(&of) && step.contains('-') && step.split('-').all(is_word)
        })
    };
    text.split('"').filter(is_name).map(str::to_owned).collect()
}

#[test]
fn every_fault_point_is_listed_and_every_listed_one_stands_somewhere() {
    let texts = xtask::texts();
    let list = texts.iter().find(|(path, _)| path == LIST).map(|(_, text)| names(text)).unwrap();
    let mut standing = BTreeSet::new();
    for (path, text) in texts.iter().filter(|(path, _)| path.starts_with("crates/") && path.contains("/src/"))
    {
        if path != LIST && text.contains("fault::point(") {
            standing.extend(names(text));
        }
    }
    let missing: Vec<_> = standing.difference(&list).collect();
    assert!(missing.is_empty(), "name these in {LIST}: {missing:?}");
    let gone: Vec<_> = list.difference(&standing).collect();
    assert!(gone.is_empty(), "these stand nowhere; take them out of {LIST}: {gone:?}");
    assert!(list.len() > 100, "the list is not found: {list:?}");
}
