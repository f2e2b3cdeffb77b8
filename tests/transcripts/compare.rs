//! Whether output is what a document shows.
//!
//! Decides: what may differ from run to run, and nothing else may: points in time, lengths of time, the names of nodes,
//! and the lines for which the document shows a line `...` (any number of them, also none).

/// Stands for any number of lines.
const ANY: &str = "...";

/// How output compares with what is shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// All of it is shown.
    Whole,
    /// All that is shown is there, and more follows.
    More,
    /// It is not, or not yet, what is shown.
    Differs,
}

/// Compares what a document shows with what was printed, line by line.
pub(crate) fn compare(shown: &[String], printed: &[String]) -> Compared {
    let plain = |lines: &[String]| lines.iter().map(|line| normal(line)).collect::<Vec<_>>();
    let (shown, printed) = (plain(shown), plain(printed));
    let ends = ends(&shown, &printed);
    match ends.last() {
        Some(&end) if end == printed.len() => Compared::Whole,
        Some(_) => Compared::More,
        None => Compared::Differs,
    }
}

/// After how many printed lines all that is shown may have been seen, rising.
fn ends(shown: &[String], printed: &[String]) -> Vec<usize> {
    let mut ends = vec![0];
    for line in shown {
        ends = if line == ANY {
            ends.first().map_or(Vec::new(), |&first| (first..=printed.len()).collect())
        } else {
            ends.into_iter().filter(|&at| printed.get(at) == Some(line)).map(|at| at + 1).collect()
        };
    }
    ends
}

/// A line with everything that may differ put in one form.
fn normal(line: &str) -> String {
    const FORMS: [(&str, &str); 4] = [
        ("9999-99-99T99:99:99.999999Z", "<time>"),
        ("9999-99-99 99:99:99 UTC", "<time>"),
        ("99:99:99.999", "<time>"),
        ("node-xxxxxxxxxxxxxxxxxxxxxxxx", "<node>"),
    ];
    let line = FORMS.iter().fold(line.trim_end().to_owned(), |line, (form, by)| replace(&line, form, by));
    spans(&line)
}

/// Replaces each place of that form, in which 9 is a decimal and x a hexadecimal digit.
fn replace(line: &str, form: &str, by: &str) -> String {
    let fits = |rest: &str| {
        rest.len() >= form.len()
            && rest.bytes().zip(form.bytes()).all(|(c, f)| match f {
                b'9' => c.is_ascii_digit(),
                b'x' => c.is_ascii_hexdigit(),
                _ => c == f,
            })
    };
    let mut out = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if fits(rest) {
            out.push_str(by);
            rest = &rest[form.len()..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Replaces each length of time: `3 ms`, `4.0 s`, `1 min 50 s`, `1m 02s`, `6.91s`.
fn spans(line: &str) -> String {
    const UNITS: [&str; 6] = ["ms", "s", "min", "m", "h", "d"];
    let mut out: Vec<&str> = Vec::new();
    let words: Vec<&str> = line.split(' ').collect();
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        let bare = word.trim_end_matches([',', ';']);
        let number = bare.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let is_number = number.parse::<f64>().is_ok();
        let next = words.get(at + 1).map_or("", |next| next.trim_end_matches([',', ';']));
        let taken = match &bare[number.len()..] {
            "" if is_number && UNITS.contains(&next) => 2,
            unit if is_number && UNITS.contains(&unit) => 1,
            _ => 0,
        };
        if taken == 0 {
            out.push(word);
        } else if out.last() != Some(&"<span>") {
            out.push("<span>");
        }
        at += taken.max(1);
    }
    out.join(" ")
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn only_times_and_nodes_and_marked_lines_may_differ() {
    let shown = lines("a 2026-11-23T12:00:00.123456Z\nb node-0123456789abcdef01234567");
    let printed = lines("a 2027-01-02T03:04:05.000000Z\nb node-ffffffffffffffffffffffff");
    assert_eq!(compare(&shown, &printed), Compared::Whole);
    assert_eq!(compare(&shown, &lines("a now\nb node-ffffffffffffffffffffffff")), Compared::Differs);
    for (one, other) in
        [("in 6.91s", "in 1m 02s"), ("3 ms ago; x", "1 min 50 s ago; x"), ("after 4.0 s", "after 59 ms")]
    {
        assert_eq!(compare(&lines(one), &lines(other)), Compared::Whole, "{one}");
    }
    for (one, other) in [("run 1", "run 2"), ("step 1 of 3", "step 2 of 3"), ("   1  a", "   2  a")] {
        assert_eq!(compare(&lines(one), &lines(other)), Compared::Differs, "{one}");
    }
    assert_eq!(compare(&lines("a\n...\nb"), &lines("a\nx\ny\nb")), Compared::Whole);
    assert_eq!(compare(&lines("a\n...\nb"), &lines("a\nb\nb\nc")), Compared::More);
    assert_eq!(compare(&lines("a\nb"), &lines("a")), Compared::Differs);
    assert_eq!(compare(&[], &[]), Compared::Whole);
}
