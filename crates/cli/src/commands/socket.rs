//! Whose Unix socket it is.
//!
//! Decides: that of several servers which are started on one socket path, one at a time touches it. A socket that a
//! dead server left behind can only be replaced safely by somebody who knows that nobody else is about to, so a lock
//! beside it is held from before it is looked at until the process ends. The lock's file stays: a lock on a file that
//! was unlinked would be held by two.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::exit::{Exit, Stop};

/// Held as long as the socket is ours.
#[derive(Debug)]
pub(crate) struct SocketLock {
    _file: File,
}

impl SocketLock {
    pub(crate) fn take(socket: &Path) -> Result<Self, Stop> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&path);
        let file =
            file.map_err(|e| Stop::new(Exit::Refused, format!("cannot open {}: {e}", path.display())))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Stop::new(
                Exit::Refused,
                format!(
                    "unix:{} belongs to another server; stop it, or listen on another path",
                    socket.display()
                ),
            )),
            Err(e) => Err(Stop::new(Exit::Refused, format!("cannot lock {}: {e}", path.display()))),
        }
    }
}
