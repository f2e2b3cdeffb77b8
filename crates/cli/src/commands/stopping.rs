//! Signals that ask this process to stop.
//!
//! Decides: which they are, and what exit code they stand for. Never decides what is done about one.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Stop};

/// SIGTERM and SIGINT, and where a terminal owns the process what that sends.
pub(crate) struct Stopping {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    /// Taken and not acted on: a node that is suspended loses its lease, and its work with it.
    _suspend: Option<Signal>,
}

/// Whose process this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A supervisor's; it says SIGTERM.
    Supervisor,
    /// A person's: the end of the terminal asks it to stop, and Ctrl-Z does not suspend it.
    Terminal,
}

impl Stopping {
    pub(crate) fn new(owner: Owner) -> Result<Self, Stop> {
        let listen = |kind| {
            signal(kind).map_err(|e| Stop::new(Exit::Failed, format!("cannot listen for signals: {e}")))
        };
        let of_terminal = |kind: SignalKind| match owner {
            // `nohup` asks to ignore it, and a listener would undo that.
            Owner::Terminal if !is_ignored(kind) => listen(kind).map(Some),
            Owner::Terminal | Owner::Supervisor => Ok(None),
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: of_terminal(SignalKind::hangup())?,
            _suspend: of_terminal(SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()))?,
        })
    }

    /// Ready at the next signal; the exit code that shells have for a process that it ends.
    pub(crate) async fn next(&mut self) -> u8 {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = hangup => SignalKind::hangup(),
        };
        128 + u8::try_from(kind.as_raw_value()).expect("signals have small numbers")
    }
}

/// Whether the process was started with that signal ignored.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default();
    ignored >> (kind.as_raw_value() - 1) & 1 == 1
}
