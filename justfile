# `just` lists what there is.
default:
    @just --list

# The server with the demo models, on 127.0.0.1:8888.
serve:
    cargo run --release -- serve --demo

# Every test of the project.
test:
    ./scripts/test

# What a change must pass.
ci:
    .ci/run

# Format and lint.
lint:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --lib

# The README, word for word, and the names in the documents. Needs port 8888.
readme:
    cargo build --release
    cargo test -p system-tests --test transcripts

# The race tests must fail where the claim is check-then-act.
mutants:
    tests/mutants/run

# Licences and sources of the dependencies.
deny:
    cargo deny check

# Write docs/configuration.md anew.
docs:
    UPDATE_DOCS=1 cargo test -p soloist-cli configuration_page
