//! The printed state table is reviewed as a file.

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/state-table.md");

#[test]
fn the_state_table_is_the_one_that_was_reviewed() {
    let table = soloist::state::table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &table).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    assert_eq!(table, golden, "a rule has changed; review it, then run this test with UPDATE_GOLDEN=1");
}
