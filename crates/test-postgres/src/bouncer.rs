//! PgBouncer in transaction mode, before a cluster.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{Cluster, free_port, give, programs::User, wait_for_end};

/// A pooler that gives a server to a client for one transaction at a time.
pub struct Bouncer {
    port: u16,
    child: Child,
}

impl Bouncer {
    /// Starts one before a cluster, whose superuser it is to everybody.
    #[must_use]
    pub fn start(cluster: &Cluster) -> Self {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"].map(PathBuf::from);
        let program = program.into_iter().find(|program| program.exists()).expect(
            "these tests need PgBouncer: install it (Debian: apt-get install pgbouncer); its service need not run",
        );
        let dir = TempDir::with_prefix("soloist-pgbouncer-").expect("a temporary directory").keep();
        let (port, user) = (free_port(), User::unprivileged());
        let (host, server) = cluster.address();
        let ini = [
            "[databases]".to_owned(),
            format!("* = host={host} port={server} user=postgres"),
            "[pgbouncer]".to_owned(),
            "listen_addr = localhost".to_owned(),
            format!("listen_port = {port}"),
            "unix_socket_dir =".to_owned(),
            "auth_type = any".to_owned(),
            "pool_mode = transaction".to_owned(),
            "max_client_conn = 2000".to_owned(),
            "default_pool_size = 40".to_owned(),
            format!("logfile = {}", dir.join("log").display()),
        ];
        fs::write(dir.join("ini"), ini.join("\n")).expect("the directory is ours");
        give(&dir, user.as_ref());
        give(&dir.join("ini"), user.as_ref());
        let script = format!(
            "'{}' -q '{}' > /dev/null 2>&1 & cat > /dev/null; kill -KILL $!; rm -rf '{}'",
            program.display(),
            dir.join("ini").display(),
            dir.display()
        );
        let child = wait_for_end(&script, user.as_ref());
        await_listener(port, &dir);
        Self { port, child }
    }

    /// How a database is reached through it.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost:{}/{database}?sslmode=disable", self.port)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn await_listener(port: u16, dir: &Path) {
    let begun = Instant::now();
    while TcpStream::connect(("localhost", port)).is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "PgBouncer does not listen: {}",
            fs::read_to_string(dir.join("log")).unwrap_or_default()
        );
        thread::sleep(Duration::from_millis(20));
    }
}
