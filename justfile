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

# What this machine reaches; docs/performance.md says how to read it.
bench:
    cargo build --release
    target/release/soloist bench start
    target/release/soloist bench events
    target/release/soloist bench fanout
    target/release/soloist bench replay
    target/release/soloist bench takeover

# Soloist beside a server as many write it by hand, and the floor of this machine.
compare:
    scripts/compare

# Which tests find which bug; see docs/mutants.md.
mutants:
    scripts/mutants

# Unsafe code under AddressSanitizer.
sanitize:
    ./scripts/sanitize

# Licences and sources of the dependencies.
deny:
    cargo deny check

# Write docs/configuration.md anew.
docs:
    UPDATE_DOCS=1 cargo test -p soloist-cli configuration_page
