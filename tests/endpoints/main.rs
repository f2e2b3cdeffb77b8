//! The examples of `examples/` against the built program: real streaming endpoints with Soloist in front of them, started
//! by their own run scripts, cut, stopped and killed. `./scripts/test` installs what they need, below
//! `SOLOIST_TEST_EXAMPLE_ENV`.
#![allow(missing_docs, clippy::unwrap_used)]

mod each;
mod example;
mod page;
mod tab;
mod tabs;
