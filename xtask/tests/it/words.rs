//! Words that may stand in one place only, or in none.

/// What reads the wall clock.
const CLOCKS: [&str; 5] = ["SystemTime::now", "UNIX_EPOCH", "Zoned::now", "jiff::Timestamp::now", "Utc::now"];

#[test]
fn only_the_clock_reads_local_time() {
    let sources = xtask::texts();
    let sources = sources.iter().filter(|(path, _)| path.starts_with("crates/") && path.contains("/src/"));
    // Who measures a server from outside has a clock of his own, and knows nothing of the library.
    let sources = sources.filter(|(path, _)| !path.starts_with("crates/bench/"));
    for (path, text) in sources.filter(|(path, _)| path != "crates/soloist/src/clock.rs") {
        for clock in CLOCKS {
            assert!(
                !text.contains(clock),
                "{path}: ask crates/soloist/src/clock.rs for the time, not {clock}"
            );
        }
    }
    let own = std::fs::read_to_string(xtask::root().join("crates/soloist/src/clock.rs")).unwrap();
    assert!(
        CLOCKS.iter().any(|clock| own.contains(clock)),
        "the clock reads the time somehow; name it in CLOCKS"
    );
}

#[test]
fn no_text_refers_to_what_a_reader_does_not_have() {
    // Put together here, so that this file does not hold them itself.
    let elsewhere = ["/shared/", "SPEC", "PROTOCOL", "HOUSE"].map(|name| match name {
        "/shared/" => format!("..{name}"),
        name => format!("{name}.md"),
    });
    let absolute = ["/work", "/shared"].concat();
    for (path, text) in xtask::texts() {
        for word in elsewhere.iter().chain([&absolute]) {
            assert!(
                !text.contains(word.as_str()),
                "{path} mentions {word}: say it in the project's own words"
            );
        }
    }
}
