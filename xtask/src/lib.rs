//! What the source itself must keep to, checked by the tests of this package.
//!
//! Decides: where the project's own files are. The rules stand in `tests/it/`, one file each: the direction between
//! crates, the headers of SQL files, and words that may stand in one place only.

#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Directories that hold nothing of ours.
const FOREIGN: [&str; 5] = ["target", ".git", "node_modules", "__pycache__", ".venv"];

/// The root of the project.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package stands in the root").to_owned()
}

/// All files of the project that are text, in the order of their paths, each with its path from the root.
///
/// # Panics
/// Where a directory cannot be read.
#[must_use]
pub fn texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    walk(&root(), &mut texts);
    texts.sort();
    texts
}

fn walk(dir: &Path, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("cannot read {}: {e}", dir.display())).flatten()
    {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_foreign = FOREIGN.contains(&name.as_ref()) || name.starts_with("target-");
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && !is_foreign {
            walk(&path, texts);
        } else if kind.is_file()
            && !is_foreign
            // A test of another package may delete its own files meanwhile; what is not UTF-8 is no text.
            && let Ok(text) = fs::read_to_string(&path)
        {
            let path = path.strip_prefix(root()).expect("it was found below the root");
            texts.push((path.to_string_lossy().into_owned(), text));
        }
    }
}
