//! Where the server listens.
//!
//! Decides: that nobody beyond this machine reaches a server without authentication unless the operator says so.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener, UnixStream};

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
    /// Device and inode, so that the file of a successor is left alone.
    file: (u64, u64),
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
            return bind_unix(Path::new(path)).await.map(Self::Unix).map_err(named);
        }
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(named)?.collect();
        if exposure == Exposure::Local && !addresses.iter().all(|a| a.ip().to_canonical().is_loopback()) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{address} can be reached from beyond this machine, and whoever reaches it may do everything; \
                     listen on 127.0.0.1 or on unix:/path, or set allow_anonymous = true"
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

async fn bind_unix(path: &Path) -> io::Result<UnixSocket> {
    let listener = match UnixListener::bind(path) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse && is_left_behind(path).await => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let file = std::fs::symlink_metadata(path)?;
    Ok(UnixSocket { listener, path: path.to_owned(), file: (file.dev(), file.ino()) })
}

/// Whether a socket is there and nobody answers.
async fn is_left_behind(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && matches!(UnixStream::connect(path).await, Err(e) if e.kind() == io::ErrorKind::ConnectionRefused)
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
