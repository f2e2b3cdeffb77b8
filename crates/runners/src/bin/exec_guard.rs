//! `exec-guard`: a guard process and nothing else, for programs whose `main` is not their own (`Guard::start_from`).

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    soloist_runners::guard::enter_if_asked();
    eprintln!("exec-guard: other programs start this one, see Guard::start_from of soloist-runners");
    std::process::ExitCode::from(2)
}
