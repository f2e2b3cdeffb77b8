//! What the documents name is there.

use std::{collections::BTreeSet, fs, path::Path};

use crate::readme::checkout;

/// Folders of the checkout: a word in backticks that begins with one of them is the path of a file.
const FOLDERS: [&str; 7] = ["crates/", "examples/", "tests/", "docs/", "scripts/", "xtask/", ".ci/"];

/// All documents, by their path in the checkout.
fn documents() -> Vec<String> {
    let mut documents = Vec::new();
    for folder in [".", "docs", "docs/guides", "examples", "examples/django"] {
        for entry in fs::read_dir(checkout().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                documents.push(if folder == "." { name } else { format!("{folder}/{name}") });
            }
        }
    }
    assert!(documents.len() > 5, "{documents:?}");
    documents
}

/// What stands between two marks, of a text.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split_once(close)).map(|(inside, _)| inside)
}

/// The words in backticks outside of fenced blocks.
fn words(text: &str) -> Vec<String> {
    let outside = text.split("\n```").step_by(2);
    outside
        .flat_map(|part| part.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_file_and_link_that_a_document_names_is_there() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(checkout().join(&document)).unwrap();
        let beside = Path::new(&document).parent().unwrap().to_path_buf();
        let links = between(&text, "](", ")")
            .filter(|link| !link.contains("://") && !link.starts_with('#'))
            .map(|link| beside.join(link.split('#').next().unwrap()));
        let paths = words(&text)
            .into_iter()
            .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
            .map(|word| Path::new(word.split([' ', ':']).next().unwrap()).to_path_buf());
        missing.extend(
            links.chain(paths).filter(|path| !checkout().join(path).exists()).map(|p| (document.clone(), p)),
        );
    }
    assert!(missing.is_empty(), "named and not there: {missing:#?}");
}

#[test]
fn every_promise_has_a_test_and_every_test_that_the_guarantees_name_is_there() {
    let text = fs::read_to_string(checkout().join("docs/guarantees.md")).unwrap();
    let mut promised = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut promise = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            promise = heading.split([':', ' ']).next().filter(|id| is_promise(id));
        }
        // [name](../path): `test`, `test`, in a list or in a cell of a table.
        for link in line.split("](../").skip(1) {
            let Some((path, rest)) = link.split_once("): ") else { continue };
            let tests = rest.split(['[', '|']).next().unwrap_or_default();
            if path.contains([')', '#']) || !path.ends_with(".rs") {
                continue;
            }
            let source = fs::read_to_string(checkout().join(path)).unwrap_or_default();
            for test in tests.split('`').skip(1).step_by(2) {
                if has_test(&source, test) {
                    promised.extend(promise);
                } else {
                    wrong.push(format!("{path}: {test}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "no such test: {wrong:#?}");
    assert_eq!(promised, BTreeSet::from(["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8"]));
}

/// A function of that name; those of the contract suite are generic over the store, and some are made by a macro from a list.
fn has_test(source: &str, test: &str) -> bool {
    ["(", "<"].iter().any(|then| source.contains(&format!("fn {test}{then}")))
        || source.lines().any(|line| line.trim_start().starts_with(&format!("{test}:")))
}

fn is_promise(id: &str) -> bool {
    id.strip_prefix('S').is_some_and(|number| number.parse::<u32>().is_ok())
}
