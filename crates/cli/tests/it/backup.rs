//! `soloist backup`: what it refuses, and that it leaves nothing behind then.

use std::process::Command;

use super::program::{Done, Server, soloist};

#[test]
fn a_copy_never_takes_the_name_of_a_file_that_is_there_and_says_what_is_wrong() {
    let server = Server::new();
    server.run(&["create", "demo/ExampleTask/a", "--input", r#"{"message":"m"}"#]).exits(0);
    let done = server.run(&["backup", "copy.db"]).exits(0);
    assert!(done.out.starts_with("copied 1 task (") && done.out.contains(") to copy.db in "), "{done:?}");
    std::fs::write(server.dir.path().join("other"), "mine").unwrap();
    for (args, exit, said) in [
        (&["backup", "copy.db"][..], 6, "copy.db is there already; name another file"),
        (&["backup", "other"], 6, "other is there already"),
        (&["backup", "none/copy.db"], 1, "check that its directory exists"),
        (&["backup", "b.db", "--store", "memory:"], 2, "memory:"),
        (&["backup", "b.db", "--store", "sqlite://none.db"], 5, "none.db"),
        (&["backup", "b.db", "--store", "sqlite://other"], 5, "other is no soloist database"),
    ] {
        let refused = server.run(args).exits(exit);
        assert!(refused.err.contains(said) && refused.out.is_empty(), "{args:?}: {refused:?}");
    }
    assert_eq!(std::fs::read_to_string(server.dir.path().join("other")).unwrap(), "mine");
    let names = server.dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| !name.to_string_lossy().starts_with("soloist.db")).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_copy_that_finds_no_room_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    soloist_sqlite::SqliteStore::open(dir.path().join("soloist.db")).unwrap();
    std::fs::create_dir(dir.path().join("small")).unwrap();
    let size = std::fs::metadata(dir.path().join("soloist.db")).unwrap().len() >> 10;
    // Where it is the copy itself that has no room, and where only what is done with it has none. Disks of a namespace of
    // its own, which go with it.
    let script = "for size in \"$@\"; do mount -t tmpfs -o size=${size}k none small && \
                  { \"$0\" backup small/copy.db; echo \"exit $?\"; ls -A small; umount small; }; done";
    let sizes: Vec<u64> = [4, 64].into_iter().chain((size - 24..=size + 48).step_by(4)).collect();
    let mut shell = Command::new("unshare");
    shell.current_dir(dir.path()).args(["--map-root-user", "--mount", "sh", "-c", script]);
    shell.arg(soloist(dir.path()).get_program()).args(sizes.iter().map(u64::to_string));
    let done = Done::of(shell.output().unwrap()).exits(0);
    let lines: Vec<_> = done.out.lines().collect();
    let refused = lines.iter().take_while(|line| **line == "exit 1").count();
    assert!(refused >= sizes.iter().filter(|room| **room < size).count(), "{done:?}");
    for (copied, line) in lines[refused..].chunks(3).zip(refused..) {
        assert!(
            matches!(copied, [said, "exit 0", "copy.db"] if said.starts_with("copied")),
            "{line}: {done:?}"
        );
    }
    assert_eq!(lines.len(), refused + 3 * (sizes.len() - refused), "{done:?}");
}

#[test]
fn a_database_that_nobody_uses_is_copied_as_well() {
    let dir = tempfile::tempdir().unwrap();
    soloist_sqlite::SqliteStore::open(dir.path().join("soloist.db")).unwrap();
    let done = Done::of(soloist(dir.path()).args(["--json", "backup", "copy.db"]).output().unwrap()).exits(0);
    assert_eq!(done.json()["tasks"], 0);
    soloist_sqlite::SqliteStore::open(dir.path().join("copy.db")).unwrap();
}

#[test]
fn every_shell_gets_its_completions() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = Done::of(soloist(dir.path()).args(["completions", shell]).output().unwrap()).exits(0);
        assert!(done.out.contains("idempotency-key"), "{shell}");
    }
    Done::of(soloist(dir.path()).args(["completions", "cmd"]).output().unwrap()).exits(2);
}
