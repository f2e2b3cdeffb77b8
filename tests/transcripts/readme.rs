//! The README, run word for word.
//!
//! How its blocks are read, which is also how a person reads them:
//!
//! - `console`: what happens in one terminal. `# terminal 2` on top names it (without: the first). A line `$ COMMAND`
//!   is typed, `^C` is Ctrl-C, all other lines are printed. A block that begins without a command goes on with what
//!   its terminal prints. A command that is followed by another one in its terminal must have ended before.
//! - `toml`: a file; the comment on top is its name.
//! - `rust`: the example of the front page of the library, where it is compiled and run.
//!
//! The commands run in a folder inside this checkout, with `target` in it: `cargo` finds the project from there as
//! from the checkout itself, and `soloist.db` goes into that folder.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::terminal::Terminal;

/// Runs this very test; everything else is run by it.
const RUNS_ALL_TESTS: &str = "./scripts/test";

/// A fenced block.
struct Block {
    line: usize,
    language: String,
    lines: Vec<String>,
}

pub(crate) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (line, text) in (1..).zip(text.lines()) {
        match (&mut open, text.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block { line, language: language.trim().to_owned(), lines: Vec::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.lines.push(text.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "the last block of the README is not closed");
    blocks
}

/// A folder in which the commands behave as in the checkout.
fn folder() -> tempfile::TempDir {
    let target = checkout().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
    let inside = checkout().join("target/transcripts");
    fs::create_dir_all(&inside).unwrap();
    let dir = tempfile::tempdir_in(inside).unwrap();
    symlink(target, dir.path().join("target")).unwrap();
    symlink(checkout().join("examples"), dir.path().join("examples")).unwrap();
    dir
}

#[test]
fn every_command_of_the_readme_does_what_the_readme_shows() {
    if let Err(error) = TcpListener::bind("127.0.0.1:8888") {
        panic!("the README uses 127.0.0.1:8888, and it is not free ({error}); stop what listens there");
    }
    let dir = folder();
    let mut terminals: BTreeMap<String, Terminal> = BTreeMap::new();
    for block in blocks(&fs::read_to_string(checkout().join("README.md")).unwrap()) {
        println!("README.md:{} {}", block.line, block.language);
        match block.language.as_str() {
            "console" => run(&block, dir.path(), &mut terminals),
            "toml" => {
                let name = block.lines[0].strip_prefix("# ").expect("a file is named by the comment on top");
                fs::write(dir.path().join(name), block.lines.join("\n") + "\n").unwrap();
            }
            "rust" => assert_eq!(block.lines, front_page(), "the README shows the library's front page"),
            other => panic!("README.md:{}: nothing is known of blocks of {other:?}", block.line),
        }
    }
    for terminal in terminals.values() {
        terminal.end();
    }
}

fn run(block: &Block, dir: &Path, terminals: &mut BTreeMap<String, Terminal>) {
    let mut lines = block.lines.as_slice();
    let mut name = "terminal 1".to_owned();
    if let Some((first, rest)) = lines.split_first()
        && let Some(named) = first.strip_prefix("# ")
    {
        assert!(named.starts_with("terminal "), "README.md:{}: what is {named:?}?", block.line);
        (name, lines) = (named.to_owned(), rest);
    }
    while let Some((first, rest)) = lines.split_first() {
        let acts = |line: &String| line.starts_with("$ ") || line == "^C";
        let (output, after) = rest.split_at(rest.iter().position(acts).unwrap_or(rest.len()));
        if first == &format!("$ {RUNS_ALL_TESTS}") {
            assert!(output.is_empty() && checkout().join(RUNS_ALL_TESTS).is_file());
        } else if let Some(command) = first.strip_prefix("$ ") {
            if let Some(before) = terminals.get(&name) {
                before.end();
            }
            let terminal = Terminal::type_in(command, dir);
            terminals.insert(name.clone(), terminal);
            terminals.get_mut(&name).unwrap().expect(output);
        } else {
            let terminal = terminals.get_mut(&name).expect("a terminal begins with a command");
            if first == "^C" {
                terminal.interrupt();
                terminal.expect(output);
            } else {
                terminal.expect(&[std::slice::from_ref(first), output].concat());
            }
        }
        lines = after;
    }
}

/// The first example in the documentation of the library, as its readers see it.
fn front_page() -> Vec<String> {
    let source = fs::read_to_string(checkout().join("crates/soloist/src/lib.rs")).unwrap();
    let docs: Vec<&str> = source.lines().map_while(|line| line.strip_prefix("//!")).collect();
    docs.iter()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .skip_while(|line| *line != "```")
        .skip(1)
        .take_while(|line| *line != "```")
        .filter(|line| !line.starts_with("# "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn blocks_are_read_as_they_are_written() {
    let read = blocks("a\n```console\n$ x\n```\nb\n```toml\n# f\n```\n");
    let read: Vec<_> = read.iter().map(|b| (b.line, b.language.as_str(), b.lines.len())).collect();
    assert_eq!(read, [(2, "console", 1), (6, "toml", 1)]);
}
