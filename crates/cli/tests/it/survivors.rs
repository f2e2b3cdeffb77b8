//! Nothing of a command outlives the server, whoever is killed, in whichever order, by SIGKILL.

use rustix::process::{Pid, Signal, kill_process};

use super::{
    program::{Running, Server},
    zoo::{Zoo, children},
};

/// A server that runs a zoo, its guard process and its attempt process.
struct Case {
    server: Server,
    running: Running,
    zoo: Zoo,
    guard: Pid,
    attempt: Pid,
}

impl Case {
    fn new() -> Self {
        Self::configured("")
    }

    fn configured(settings: &str) -> Self {
        let zoo = Zoo::new();
        let config = format!(
            "{settings}\n[[model]]\napp = \"a\"\nmodel = \"Zoo\"\nrunner = \"exec\"\nshell = true\ncommand = ['''{}''']\n",
            zoo.script()
        );
        let mut server = Server::configured(&config);
        server.run(&["create", "a/Zoo/1", "--start"]).exits(0);
        zoo.is_full();
        let running = server.take();
        let guard = the_child(running.pid(), "exec-guard");
        let attempt = the_child(guard, "exec-attempt");
        Self { server, running, zoo, guard, attempt }
    }

    /// Kills them one right after the other; nothing of the command is left, nor of what watches over it, and the
    /// record says so.
    fn nothing_survives(mut self, killed: impl Fn(&Self) -> Vec<Pid>) {
        let killed = killed(&self);
        for pid in &killed {
            let _ = kill_process(*pid, Signal::KILL);
        }
        self.zoo.is_empty();
        // A server that is killed after the others may still have put on record that it has lost them.
        let mut expected = Vec::new();
        if killed.contains(&self.running.pid()) {
            expected.push("NodeLost");
            // Its output ends only once the guard, which shares it, is gone as well.
            self.running.ended();
            self.server.up("127.0.0.1:0");
        }
        if killed.contains(&self.guard) || killed.contains(&self.attempt) {
            expected.push("GuardLost");
        }
        self.server.run(&["watch", "a/Zoo/1"]).exits(1);
        let task = self.server.run(&["show", "--json", "a/Zoo/1"]).json();
        assert!(expected.contains(&task["error_type"].as_str().unwrap()), "{task}");
        self.zoo.is_empty();
    }
}

fn the_child(parent: Pid, name: &str) -> Pid {
    let children = children(parent.as_raw_pid().try_into().unwrap());
    assert_eq!(children.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), [name]);
    Pid::from_raw(children[0].0.try_into().unwrap()).unwrap()
}

#[test]
fn when_the_server_is_killed_no_process_of_a_command_survives() {
    Case::new().nothing_survives(|case| vec![case.running.pid()]);
}

#[test]
fn when_the_guard_is_killed_no_process_of_a_command_survives() {
    Case::new().nothing_survives(|case| vec![case.guard]);
}

#[test]
fn when_the_attempt_process_is_killed_no_process_of_a_command_survives() {
    Case::new().nothing_survives(|case| vec![case.attempt]);
}

#[test]
fn when_server_and_guard_are_killed_no_process_of_a_command_survives() {
    Case::new().nothing_survives(|case| vec![case.guard, case.running.pid()]);
    Case::new().nothing_survives(|case| vec![case.running.pid(), case.guard]);
}

/// The guard may have begun to end the command, and be anywhere in it.
#[test]
fn when_the_guard_is_killed_a_moment_after_the_server_no_process_of_a_command_survives() {
    for microseconds in [100, 300, 600, 1_000, 2_000, 4_000] {
        println!("the guard is killed {microseconds} us after the server");
        Case::new().nothing_survives(|case| {
            kill_process(case.running.pid(), Signal::KILL).unwrap();
            // Whichever moment it is, nothing survives; this is no wait for anything.
            std::thread::sleep(std::time::Duration::from_micros(microseconds));
            vec![case.guard, case.running.pid()]
        });
    }
}

#[test]
fn when_server_and_attempt_process_are_killed_no_process_of_a_command_survives() {
    Case::new().nothing_survives(|case| vec![case.attempt, case.running.pid()]);
    Case::new().nothing_survives(|case| vec![case.running.pid(), case.attempt]);
}

#[test]
fn when_the_server_is_killed_while_the_attempt_process_is_stopped_no_process_of_a_command_survives() {
    let case = Case::new();
    kill_process(case.attempt, Signal::STOP).unwrap();
    case.nothing_survives(|case| vec![case.running.pid()]);
}

/// Another server may start the same task from then on, and the stopped one can end nothing.
#[test]
fn when_the_server_is_stopped_beyond_its_lease_no_process_of_a_command_goes_on() {
    let case = Case::configured("lease_seconds = 1");
    kill_process(case.running.pid(), Signal::STOP).unwrap();
    case.zoo.is_empty();
    kill_process(case.running.pid(), Signal::CONT).unwrap();
    case.server.run(&["watch", "a/Zoo/1"]).exits(1);
    // Whoever ended the command was right to: it is no failure of its own.
    assert_eq!(case.server.run(&["show", "--json", "a/Zoo/1"]).json()["error_type"], "StoreLost");
    // It goes on as a whole node, with another guard process. Until it has joined the store again, a start is told to come
    // again.
    let mut starts = std::iter::repeat_with(|| case.server.run(&["start", "a/Zoo/1"])).take(500);
    starts.find(|done| done.exit != 5).expect("it joins the store again").exits(0);
    case.zoo.is_full();
    kill_process(case.running.pid(), Signal::KILL).unwrap();
    case.zoo.is_empty();
    case.running.ended();
}
