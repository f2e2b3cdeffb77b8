//! A promise that is written and not listed would never be tested.

use std::fs;

#[test]
fn every_promise_of_the_suite_is_listed_in_its_macro() {
    let src = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let listed = fs::read_to_string(format!("{src}/lib.rs")).unwrap();
    let listed: Vec<&str> = listed.lines().map(str::trim).collect();
    let mut promises = 0;
    for file in fs::read_dir(src).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let names = text
            .lines()
            .filter_map(|line| line.strip_prefix("pub async fn ")?.strip_suffix("<H: Harness>() {"));
        for name in names {
            promises += 1;
            assert!(listed.contains(&name), "{name} is neither in contract! nor in host_contract!");
        }
    }
    assert!(promises > 60, "{promises} promises were found");
}
