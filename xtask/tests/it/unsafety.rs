//! Where `unsafe` may stand.
//!
//! Every crate of ours forbids it, but for the one whose module argues for each use. There it is denied, so that a use says
//! `allow(unsafe_code)` where it stands, and `scripts/sanitize` runs the tests of that crate under AddressSanitizer.

use std::collections::BTreeSet;

/// The files that may hold it, each with how often.
const ARGUED: [(&str, usize); 1] = [("crates/runners/src/guard/sys.rs", 5)];
/// The package that they are of.
const PACKAGE: &str = "crates/runners/";

/// What says that a compiler must not take it, at the top of a crate.
const FORBIDDEN: &str = "#![forbid(unsafe_code)]";

/// The lines of a source with their numbers, without comments and without what stands between quotation marks.
fn code(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().enumerate().map(|(i, line)| {
        let mut code = String::new();
        let mut is_quoted = false;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' if is_quoted => drop(chars.next()),
                '"' => is_quoted = !is_quoted,
                '/' if !is_quoted && chars.peek() == Some(&'/') => break,
                c if !is_quoted => code.push(c),
                _ => {}
            }
        }
        (i, code)
    })
}

/// Lines of code that hold a word of its own.
fn lines_with(text: &str, word: &str) -> Vec<usize> {
    let is_word = |code: &str| {
        code.match_indices(word).any(|(at, _)| {
            let part_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
            !code[..at].ends_with(part_of_a_word) && !code[at + word.len()..].starts_with(part_of_a_word)
        })
    };
    code(text).filter(|(_, code)| is_word(code)).map(|(line, _)| line).collect()
}

#[test]
fn unsafe_stands_where_it_is_argued_for_and_nowhere_else() {
    let (texts, mut found) = (xtask::texts(), BTreeSet::new());
    for (path, text) in texts.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let uses = lines_with(text, "unsafe");
        let allowed = lines_with(text, "unsafe_code").into_iter().filter(|line| {
            let line = text.lines().nth(*line).unwrap_or_default();
            line.contains("allow") || line.contains("expect")
        });
        let allowed = allowed.count();
        if uses.is_empty() && allowed == 0 {
            continue;
        }
        let argued = ARGUED.iter().find(|(argued, _)| argued == path);
        let Some((_, number)) = argued else {
            panic!(
                "{path}:{}: unsafe code stands in {ARGUED:?} only",
                uses.first().map_or(1, |line| line + 1)
            )
        };
        assert_eq!(uses.len(), *number, "{path}: uses of unsafe code; argue for it, and say so in ARGUED");
        assert!(
            allowed > 0 && allowed <= uses.len(),
            "{path}: it is allowed where it stands, not for a whole file"
        );
        assert!(!text.contains("#![allow(unsafe_code)]"), "{path}: it is allowed for a whole file");
        assert!(text.contains("//! # Unsafe code"), "{path}: its header says why it needs unsafe code");
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for line in uses {
            let above = lines[..line]
                .iter()
                .rev()
                .take_while(|line| line.starts_with("//") || line.starts_with("#["));
            let argues = above.into_iter().any(|line| line.starts_with("// SAFETY: "));
            assert!(argues, "{path}:{}: say above it why it is sound: // SAFETY: ...", line + 1);
        }
        found.insert(path.as_str());
    }
    let argued: BTreeSet<_> = ARGUED.iter().map(|(path, _)| *path).collect();
    assert_eq!(found, argued, "what holds no unsafe code is taken off the list");
}

#[test]
fn every_crate_forbids_unsafe_code_or_is_the_one_that_argues_for_it() {
    let mut roots = 0;
    for (path, text) in xtask::texts() {
        let of_a_crate = ["/src/lib.rs", "/src/main.rs"].iter().any(|root| path.ends_with(root))
            || (path.contains("/src/bin/") && path.ends_with(".rs"));
        if !of_a_crate || path.starts_with("examples/") {
            continue;
        }
        roots += 1;
        let argues = path == format!("{PACKAGE}src/lib.rs");
        assert_eq!(
            text.contains(FORBIDDEN),
            !argues,
            "{path}: {FORBIDDEN} stands in every crate without unsafe code"
        );
    }
    assert!(roots >= 12, "{roots} crates were found");
    let workspace = std::fs::read_to_string(xtask::root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"deny\""), "tests and examples deny it as well");
    for (path, _) in ARGUED {
        assert!(path.starts_with(PACKAGE), "{path}: scripts/sanitize runs the tests of {PACKAGE}");
    }
    let script = std::fs::read_to_string(xtask::root().join("scripts/sanitize")).unwrap();
    assert!(script.contains("soloist-runners"), "scripts/sanitize runs the tests of {PACKAGE}");
}

#[test]
fn unsafe_code_is_told_from_what_is_written_about_it() {
    let text = "// unsafe\nlet a = \"unsafe {\";\nunsafe { b() }\nlet unsafety = 1; // unsafe\nlet c = \"\\\" unsafe\"; unsafe fn d() {}";
    assert_eq!(lines_with(text, "unsafe"), [2, 4]);
    assert_eq!(lines_with("#[allow(unsafe_code)]\n#![deny(unsafe_code_x)]", "unsafe_code"), [0]);
}
