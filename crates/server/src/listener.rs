//! Where the server listens.
//!
//! Decides: that nobody beyond this machine reaches a server without authentication unless the operator says so, and
//! that of several servers on one socket path one at a time touches it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener};

/// Who may reach a server that asks nobody who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Only this machine: loopback addresses and Unix sockets.
    Local,
    /// Whoever reaches the address; said by the operator in so many words.
    Anyone,
}

/// An open listener.
#[derive(Debug)]
pub enum Listener {
    /// On an address.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixSocket),
}

/// A Unix socket, whose file is gone once this is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// Held as long as the path is ours.
    _lock: File,
}

impl Listener {
    /// Listens on `host:port` (port 0: any free one) or `unix:/path`. A Unix socket is for its user alone (mode 0600);
    /// the file of a server that is gone is taken over.
    ///
    /// # Errors
    /// `PermissionDenied` for an address beyond this machine with [`Exposure::Local`]; otherwise what the system says,
    /// naming the address.
    pub async fn bind(address: &str, exposure: Exposure) -> io::Result<Self> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}"));
        if let Some(path) = address.strip_prefix("unix:") {
            return bind_unix(Path::new(path)).map(Self::Unix).map_err(named);
        }
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(named)?.collect();
        if exposure == Exposure::Local && !addresses.iter().all(|a| a.ip().to_canonical().is_loopback()) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{address} can be reached from beyond this machine, and whoever reaches it may do everything; \
                     listen on 127.0.0.1 or on unix:/path"
                ),
            ));
        }
        TcpListener::bind(&addresses[..]).await.map(Self::Tcp).map_err(named)
    }

    /// Where it listens: `127.0.0.1:8888` or `unix:/path`.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            Self::Unix(socket) => Ok(format!("unix:{}", socket.path.display())),
        }
    }

    /// Whether web pages on this machine can reach it by a name that somebody else chose.
    pub(crate) fn is_tcp_loopback(&self) -> bool {
        match self {
            Self::Tcp(listener) => listener.local_addr().is_ok_and(|a| a.ip().to_canonical().is_loopback()),
            Self::Unix(_) => false,
        }
    }
}

/// Binds beside the path and moves the socket there, so that it is never seen with another mode, and replaces what a
/// dead server left. Only the holder of the lock beside the path does so; the lock's file stays, since a lock on a
/// file that was unlinked would be held by two.
fn bind_unix(path: &Path) -> io::Result<UnixSocket> {
    let beside = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let lock = beside(".lock");
    let lock = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(lock)?;
    lock.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => io::Error::new(io::ErrorKind::AddrInUse, "it belongs to another server"),
        TryLockError::Error(e) => e,
    })?;
    if std::fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is no socket; remove it",
        ));
    }
    // Another program knows nothing of the lock; where it answers, it is left alone.
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another program answers there"));
    }
    let fresh = beside(".new");
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(UnixSocket { listener, path: path.to_owned(), _lock: lock })
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Still under the lock, so this is no successor's file.
        let _ = std::fs::remove_file(&self.path);
    }
}
