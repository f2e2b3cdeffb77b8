//! A query is a file, and says at its top what a reader must know to check it.

/// What a header says, line by line, after the name.
const FIELDS: [&str; 4] = ["-- called by  ", "-- guard      ", "-- returns    ", "-- atomic     "];

#[test]
fn every_query_says_who_calls_it_what_it_guards_and_what_is_atomic() {
    let mut queries = 0;
    for (path, text) in
        xtask::texts().iter().filter(|(path, _)| path.ends_with(".sql") && path.contains("/sql/"))
    {
        let name = path.rsplit('/').next().unwrap().trim_end_matches(".sql");
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        assert!(
            first.starts_with(&format!("-- {name}: ")),
            "{path} begins with \"-- {name}: \" and what it does"
        );
        let header: Vec<_> = lines.take_while(|line| line.starts_with("--")).collect();
        let mut wanted = FIELDS.iter();
        let mut next = wanted.next();
        for line in &header {
            match next {
                Some(field) if line.starts_with(field) => next = wanted.next(),
                // A field may go on in the next line.
                _ => assert!(
                    line.starts_with("--            "),
                    "{path}: {line:?} is none of {FIELDS:?} in their order"
                ),
            }
        }
        assert_eq!(next, None, "{path}: its header ends early");
        queries += 1;
    }
    assert!(queries > 0, "no query was found");
}
