//! Options of an exec model: what the configuration says, checked once.
//!
//! Decides: which options are allowed, with an error that names the key. Never looks at the machine: whether a program
//! or a directory is there is seen when it is needed.

use std::{collections::BTreeMap, path::PathBuf};

use super::argument::{Argument, Dash};
use crate::OptionError;

/// What the configuration says of an exec model.
///
/// ```
/// use soloist_runners::exec::ExecOptions;
///
/// let options = ExecOptions {
///     command: ["ffmpeg", "-i", "{input.source}", "out.mp4"].map(String::from).to_vec(),
///     ..ExecOptions::default()
/// };
/// options.validate()?;
///
/// let error = ExecOptions::default().validate().unwrap_err();
/// assert_eq!(error.key, "command");
/// # Ok::<(), soloist_runners::OptionError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// The program and its arguments. `{input.field}` fills a part of one argument with a field of the input (a
    /// string, a number or a bool; `{input.a.b}` for a field within a field); `{{` and `}}` are braces. The program
    /// itself holds no template. With `shell`, the one text that is handed to `/bin/sh -c`, as it stands.
    pub command: Vec<String>,
    /// Whether `/bin/sh -c` runs the command. Nothing is filled in then: it reads its input from stdin or from
    /// `SOLOIST_TASK_INPUT`.
    pub shell: bool,
    /// Whether an argument may begin with `-` because of what the input holds.
    pub allow_dash: bool,
    /// Variables that are set for the command.
    pub env: BTreeMap<String, String>,
    /// Variables that are handed on from the server's environment, where they are set there.
    pub pass_env: Vec<String>,
    /// Where the command runs; the server's own directory by default.
    pub dir: Option<PathBuf>,
    /// Whose environment and standard input the command gets.
    pub caller: Caller,
    /// Whether the command hears of the signals that its run is sent. Not together with [`Caller::Itself`], whose
    /// stdin is somebody else's.
    pub signals: Signals,
    /// Exit codes (1 to 255) by which the command says that another attempt would fail as well: such a failure is
    /// never tried again.
    pub final_exit_codes: Vec<u8>,
}

/// How a command hears of the signals that its run is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signals {
    /// Not at all: its stdin is the input as it was given, and its end.
    #[default]
    None,
    /// By lines on stdin: the first one is the input, and each further one a signal,
    /// `{"signal":"NAME","number":N,"data":...}`, in the order in which they were sent, from the first of the run.
    /// Stdin stays open until the command closes it or exits.
    Stdin,
}

/// Who runs a command, and so what it is given beside its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Caller {
    /// A server, for whoever asked it: a clean environment, and the task's input on stdin.
    #[default]
    Server,
    /// This process, for itself: its whole environment, and its own stdin (an empty one where that is a terminal: the
    /// command is not in the terminal's foreground, and would be stopped when it reads).
    Itself,
}

/// Options that were checked.
#[derive(Clone)]
pub(super) struct Checked {
    pub(super) program: String,
    pub(super) arguments: Vec<Argument>,
    pub(super) dash: Dash,
    pub(super) env: BTreeMap<String, String>,
    pub(super) pass_env: Vec<String>,
    pub(super) dir: Option<PathBuf>,
    pub(super) caller: Caller,
    pub(super) signals: Signals,
    pub(super) final_exit_codes: Vec<u8>,
}

impl ExecOptions {
    /// Whether the options are allowed, without running anything.
    ///
    /// # Errors
    /// The first key that is not allowed, and why.
    pub fn validate(&self) -> Result<(), OptionError> {
        self.clone().check().map(drop)
    }

    pub(super) fn check(self) -> Result<Checked, OptionError> {
        for (i, text) in self.command.iter().enumerate() {
            no_nul(text).map_err(|message| OptionError::at(format!("command[{i}]"), message))?;
        }
        let mut arguments = match (self.command.as_slice(), self.shell) {
            ([], _) => {
                return Err(OptionError::at(
                    "command",
                    "it is empty; name a program, such as [\"echo\", \"hello\"]",
                ));
            }
            ([text], true) => shell(text).map_err(|message| OptionError::at("command[0]", message))?,
            (_, true) => {
                return Err(OptionError::at(
                    "command",
                    "with shell = true it is one text, such as [\"a | b\"]",
                ));
            }
            (words, false) => words
                .iter()
                .enumerate()
                .map(|(i, text)| {
                    Argument::parse(text).map_err(|message| OptionError::at(format!("command[{i}]"), message))
                })
                .collect::<Result<_, _>>()?,
        };
        let program = match arguments.remove(0).literal() {
            Some("") => return Err(OptionError::at("command[0]", "it is empty; name a program")),
            Some(program) => program.to_owned(),
            None => {
                return Err(OptionError::at(
                    "command[0]",
                    "the program itself may not come from the input; name it",
                ));
            }
        };
        for (name, value) in &self.env {
            let key = || format!("env.{name}");
            variable(name).and_then(|()| no_nul(value)).map_err(|message| OptionError::at(key(), message))?;
        }
        for (i, name) in self.pass_env.iter().enumerate() {
            variable(name).map_err(|message| OptionError::at(format!("pass_env[{i}]"), message))?;
        }
        if let Some(dir) = &self.dir {
            let text = dir.to_string_lossy();
            no_nul(&text).map_err(|message| OptionError::at("dir", message))?;
            if text.is_empty() {
                return Err(OptionError::at("dir", "it is empty; name a directory, or leave the key out"));
            }
        }
        if let Some(i) = self.final_exit_codes.iter().position(|code| *code == 0) {
            return Err(OptionError::at(
                format!("final_exit_codes[{i}]"),
                "0 is no failure; name codes from 1 to 255",
            ));
        }
        if (self.signals, self.caller) == (Signals::Stdin, Caller::Itself) {
            return Err(OptionError::at(
                "signals",
                "a command that gets this process's own stdin cannot read signals from it",
            ));
        }
        Ok(Checked {
            program,
            arguments,
            dash: if self.allow_dash { Dash::Allowed } else { Dash::Refused },
            env: self.env,
            pass_env: self.pass_env,
            dir: self.dir,
            caller: self.caller,
            signals: self.signals,
            final_exit_codes: self.final_exit_codes,
        })
    }
}

fn shell(text: &str) -> Result<Vec<Argument>, String> {
    if text.contains("{input.") || text.contains("{input}") {
        return Err(
            "with shell = true no input may be filled in, because the shell would run what it holds; \
                    read it from stdin or from \"$SOLOIST_TASK_INPUT\", or leave shell out"
                .into(),
        );
    }
    if text.trim().is_empty() {
        return Err("it is empty; write what the shell is to run".into());
    }
    Ok(["/bin/sh", "-c", text].map(Argument::verbatim).to_vec())
}

fn variable(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("{name:?} is no name of a variable"));
    }
    if name.starts_with("SOLOIST_TASK_") {
        return Err("SOLOIST_TASK_* are set for every command; choose another name".into());
    }
    Ok(())
}

fn no_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("it holds a NUL, which no command can be given".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(options: ExecOptions) -> Option<String> {
        options.check().err().map(|error| {
            assert!(!error.message.is_empty());
            error.key
        })
    }

    fn command(words: &[&str]) -> ExecOptions {
        ExecOptions { command: words.iter().map(|&word| word.to_owned()).collect(), ..ExecOptions::default() }
    }

    #[test]
    fn options_that_are_not_allowed_are_named_by_their_key() {
        let shell = |words| ExecOptions { shell: true, ..command(words) };
        let env = |name: &str, value: &str| ExecOptions {
            env: [(name.to_owned(), value.to_owned())].into(),
            ..command(&["true"])
        };
        let pass = |name: &str| ExecOptions { pass_env: vec![name.to_owned()], ..command(&["true"]) };
        for (options, key) in [
            (command(&[]), "command"),
            (command(&[""]), "command[0]"),
            (command(&["{input.program}"]), "command[0]"),
            (command(&["echo", "ok", "{x}"]), "command[2]"),
            (command(&["echo", "a\0b"]), "command[1]"),
            (shell(&["echo", "a"]), "command"),
            (shell(&["echo {input.a}"]), "command[0]"),
            (shell(&[" "]), "command[0]"),
            (env("A=B", "x"), "env.A=B"),
            (env("A", "x\0"), "env.A"),
            (env("SOLOIST_TASK_ID", "x"), "env.SOLOIST_TASK_ID"),
            (pass(""), "pass_env[0]"),
            (pass("SOLOIST_TASK_RUN"), "pass_env[0]"),
            (ExecOptions { dir: Some("".into()), ..command(&["true"]) }, "dir"),
            (ExecOptions { final_exit_codes: vec![7, 0], ..command(&["true"]) }, "final_exit_codes[1]"),
            (
                ExecOptions { signals: Signals::Stdin, caller: Caller::Itself, ..command(&["true"]) },
                "signals",
            ),
        ] {
            assert_eq!(key_of(options).as_deref(), Some(key));
        }
        assert_eq!(key_of(command(&["echo", "{input.a}"])), None);
        assert_eq!(key_of(shell(&["f() { echo ${HOME}; }; f | awk '{print}'"])), None);
        assert_eq!(key_of(env("A", "")), None);
        let told =
            ExecOptions { signals: Signals::Stdin, final_exit_codes: vec![1, 255], ..command(&["true"]) };
        assert_eq!(key_of(told), None);
    }
}
