//! A throw-away PostgreSQL cluster for tests.
//!
//! Decides: which PostgreSQL a test meets. By default a cluster of its own, made for this process in a temporary directory,
//! on a free port of this host, run as an unprivileged user (`initdb` refuses root), and removed when this process ends,
//! however it ends: a shell waits on a pipe that this process alone holds open. A running server is never touched, unless
//! `SOLOIST_TEST_POSTGRES` names one (`postgres://superuser@host:port`); then databases are made in that one, and removed.
//!
//! No PostgreSQL is a panic with one sentence, never a test that is skipped.
//!
//! ```no_run
//! use soloist_test_postgres::Cluster;
//! let database = Cluster::shared().database("example");
//! println!("{}", database.url());
//! ```

#![forbid(unsafe_code)]
#![allow(
    clippy::missing_panics_doc,
    reason = "everything here panics where the host does not do as a test needs it"
)]

mod bouncer;
mod programs;
mod tls;

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;

pub use crate::bouncer::Bouncer;
use crate::programs::{Programs, User};

/// How a cluster is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether it waits for the disk. Nothing here is to survive the machine, so tests that need no truth about that are
    /// faster without.
    pub fsync: bool,
    /// Whether it speaks TLS, with a certificate for `localhost` of an authority that it makes for itself.
    pub tls: bool,
    /// More lines for `postgresql.conf`.
    pub settings: Vec<String>,
}

/// A PostgreSQL cluster.
pub struct Cluster {
    port: u16,
    /// Of a server that was there before.
    given: Option<String>,
    /// Of a cluster of our own.
    own: Option<Own>,
    databases: AtomicUsize,
    /// What removes everything once its standard input ends.
    remover: Mutex<Option<Child>>,
    programs: Programs,
}

struct Own {
    dir: PathBuf,
    user: Option<User>,
}

impl Cluster {
    /// The one that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var("SOLOIST_TEST_POSTGRES") {
            Ok(url) => Self::given(url),
            Err(_) => Self::start(&Options::default()),
        })
    }

    fn given(url: String) -> Self {
        let programs = Programs::find();
        let url = url.trim_end_matches('/').to_owned();
        let (prefix, psql) = (prefix(), programs.path("psql"));
        let drop_all = format!(
            "cat > /dev/null; '{psql}' -XAtq '{url}/postgres' -c \"SELECT format('DROP DATABASE %I WITH (FORCE);', datname) \
             FROM pg_database WHERE starts_with(datname, '{prefix}')\" | '{psql}' -XAtq '{url}/postgres'",
            psql = psql.display()
        );
        let remover = Mutex::new(Some(wait_for_end(&drop_all, None)));
        Self { port: 0, given: Some(url), own: None, databases: AtomicUsize::new(0), remover, programs }
    }

    /// One of its own, for a test that stops it or needs other settings.
    #[must_use]
    pub fn start(options: &Options) -> Self {
        let programs = Programs::find();
        let user = User::unprivileged();
        let dir = TempDir::with_prefix("soloist-pg-").expect("a temporary directory").keep();
        give(&dir, user.as_ref());
        let own = Own { dir, user };
        let data = own.dir.join("data");
        let initdb = ["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"];
        own.run(&programs, "initdb", &[&initdb[..], &[path(&data)]].concat());
        let port = free_port();
        let mut settings = vec![
            format!("port = {port}"),
            "listen_addresses = 'localhost'".to_owned(),
            format!("unix_socket_directories = '{}'", own.dir.display()),
            format!("fsync = {}", if options.fsync { "on" } else { "off" }),
            "max_connections = 400".to_owned(),
            "shared_buffers = 64MB".to_owned(),
            "max_pred_locks_per_transaction = 256".to_owned(),
            "log_min_messages = warning".to_owned(),
        ];
        if options.tls {
            tls::make(&own.dir);
            for file in ["server.crt", "server.key"] {
                give(&own.dir.join(file), own.user.as_ref());
            }
            settings.push("ssl = on".to_owned());
            settings.push(format!("ssl_cert_file = '{}'", own.dir.join("server.crt").display()));
            settings.push(format!("ssl_key_file = '{}'", own.dir.join("server.key").display()));
        }
        settings.extend(options.settings.iter().cloned());
        let conf = data.join("postgresql.conf");
        let before = fs::read_to_string(&conf).expect("initdb has made it");
        fs::write(&conf, format!("{before}\n{}\n", settings.join("\n"))).expect("it can be written");
        let stop = format!(
            "cat > /dev/null; '{}' stop -m immediate -D '{}' > /dev/null 2>&1; rm -rf '{}'",
            programs.path("pg_ctl").display(),
            data.display(),
            own.dir.display()
        );
        // Before the server: whatever happens now, it does not stay.
        let remover = Mutex::new(Some(wait_for_end(&stop, own.user.as_ref())));
        let cluster =
            Self { port, given: None, own: Some(own), databases: AtomicUsize::new(0), remover, programs };
        cluster.start_again();
        cluster
    }

    /// A new, empty database, whose name begins with this.
    pub fn database(&self, name: &str) -> Database<'_> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_{number}_{name}", prefix());
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\" TEMPLATE template0"));
        Database { cluster: self, name }
    }

    /// How a database of it is reached, by its superuser.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        match &self.given {
            Some(url) => format!("{url}/{database}"),
            None => format!("postgres://postgres@localhost:{}/{database}", self.port),
        }
    }

    /// Carries out SQL, and returns what it printed: a line for a row, columns apart by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let psql = self.programs.path("psql");
        let done = Command::new(&psql)
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", &self.url(database), "-c", sql])
            .output()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", psql.display()));
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address().1
    }

    /// The host and the port on which it listens.
    #[must_use]
    pub fn address(&self) -> (String, u16) {
        let Some(url) = &self.given else { return ("localhost".to_owned(), self.port) };
        let host = url.rsplit(['@', '/']).next().unwrap_or_default();
        let (host, port) = host.rsplit_once(':').unwrap_or((host, "5432"));
        (host.to_owned(), port.parse().expect("SOLOIST_TEST_POSTGRES is postgres://superuser@host:port"))
    }

    /// The certificate of the authority that has signed the server's, where it speaks TLS.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.dir().join("ca.crt")
    }

    /// Stops it as a crash does: no connection is told, nothing is written any more.
    pub fn stop(&self) {
        let data = self.dir().join("data");
        self.own().run(&self.programs, "pg_ctl", &["stop", "-m", "immediate", "-w", "-D", path(&data)]);
    }

    /// Starts it after [`Cluster::stop`].
    pub fn start_again(&self) {
        let (data, log) = (self.dir().join("data"), self.dir().join("log"));
        self.own().run(&self.programs, "pg_ctl", &["start", "-w", "-D", path(&data), "-l", path(&log)]);
    }

    /// `pg_ctl restart -m immediate`.
    pub fn restart(&self) {
        let (data, log) = (self.dir().join("data"), self.dir().join("log"));
        let args = ["restart", "-m", "immediate", "-w", "-D", path(&data), "-l", path(&log)];
        self.own().run(&self.programs, "pg_ctl", &args);
    }

    fn own(&self) -> &Own {
        self.own
            .as_ref()
            .expect("a server that was there before is neither stopped nor started; use a cluster of its own")
    }

    fn dir(&self) -> &Path {
        &self.own().dir
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let remover = self.remover.get_mut().expect("nobody panics while it is held").take();
        if let Some(mut remover) = remover {
            drop(remover.stdin.take());
            let _ = remover.wait();
        }
    }
}

impl Own {
    fn run(&self, programs: &Programs, program: &str, args: &[&str]) {
        let said = self.dir.join(format!("{program}.out"));
        let out = fs::File::create(&said).expect("the directory is ours");
        // Not a pipe: the server that pg_ctl leaves behind would hold it open.
        let mut command = Command::new(programs.path(program));
        command.args(args).stdin(Stdio::null()).stdout(out.try_clone().expect("a file")).stderr(out);
        command.current_dir(&self.dir);
        become_user(&mut command, self.user.as_ref());
        let done = command.status().unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
        assert!(
            done.success(),
            "{program} failed: {}\n{}",
            fs::read_to_string(&said).unwrap_or_default(),
            fs::read_to_string(self.dir.join("log")).unwrap_or_default()
        );
    }
}

/// A database of a cluster. It goes when this is dropped.
pub struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Database<'_> {
    /// How it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Carries out SQL in it.
    pub fn sql(&self, sql: &str) -> String {
        self.cluster.sql(&self.name, sql)
    }

    /// Sets a parameter for all connections that begin from now on.
    pub fn set(&self, setting: &str) {
        self.sql(&format!("ALTER DATABASE \"{}\" SET {setting}", self.name));
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.cluster.sql("postgres", &format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name));
        }
    }
}

/// Begins the names of the databases of this process.
fn prefix() -> String {
    format!("soloist_test_{}", std::process::id())
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary directory has a plain name")
}

/// A port on which nobody listens.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("this host has a loopback address");
    listener.local_addr().expect("it is bound").port()
}

fn give(path: &Path, user: Option<&User>) {
    if let Some(user) = user {
        chown(path, Some(user.uid), Some(user.gid)).expect("root may give files away");
    }
}

pub(crate) fn become_user(command: &mut Command, user: Option<&User>) {
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
}

/// Runs a script whose standard input ends with this process, killed or not; signals to this process's group do not reach
/// it.
pub(crate) fn wait_for_end(script: &str, user: Option<&User>) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).current_dir("/");
    become_user(&mut command, user);
    command.spawn().expect("there is a shell")
}
