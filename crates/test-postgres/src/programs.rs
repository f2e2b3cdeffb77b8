//! Where PostgreSQL's programs are, and as whom they are run.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The directory of a server's programs.
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// On the `PATH`, or where Debian and Fedora put them; the newest.
    pub(crate) fn find() -> Self {
        let on_path = std::env::var_os("PATH")
            .into_iter()
            .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut versions: Vec<(u32, PathBuf)> = versions
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
            .collect();
        versions.sort();
        let others = versions.into_iter().rev().map(|(_, path)| path);
        let others =
            others.chain(["/usr/pgsql/bin", "/usr/local/pgsql/bin", "/usr/local/bin"].map(PathBuf::from));
        let has_all = |dir: &PathBuf| {
            ["initdb", "pg_ctl", "postgres", "psql"].iter().all(|name| dir.join(name).exists())
        };
        let found = on_path.chain(others).find(has_all);
        Self(found.expect(
            "these tests need a PostgreSQL server: install one (Debian: apt-get install postgresql), or name a running one as SOLOIST_TEST_POSTGRES=postgres://superuser@host:port",
        ))
    }

    pub(crate) fn path(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }
}

/// Who a server is run as where this process is root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// None where this process is nobody special itself.
    pub(crate) fn unprivileged() -> Option<Self> {
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if !is_root {
            return None;
        }
        let users = fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
        let of = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        };
        of("postgres").or_else(|| of("nobody")).or(Some(Self { uid: 65_534, gid: 65_534 }))
    }
}
