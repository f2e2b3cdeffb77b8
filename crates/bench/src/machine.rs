//! What a figure was measured on.
//!
//! Decides: what of a machine a report names, and how the disk is measured: an append of 4 KiB and `fdatasync`, 200 times,
//! in the directory of the store.

use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use crate::{
    error::{Error, Result},
    latency::Latencies,
};

/// Appends that are waited for.
const APPENDS: usize = 200;

/// What is known of the machine, and of the disk below `dir` where the store is there.
pub fn describe(dir: Option<&Path>) -> Result<Map<String, Value>> {
    let mut known = Map::new();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    known.insert("cpu".into(), cpu_model().into());
    known.insert("cpus".into(), cpus.into());
    known.insert("kernel".into(), rustix::system::uname().release().to_string_lossy().into());
    if let Some(dir) = dir {
        let dir = dir.canonicalize().map_err(Error::io("cannot look at the directory of the store"))?;
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        known.insert("file_system".into(), file_system(&mounts, &dir).into());
        let syncs = syncs(&dir).map_err(Error::io("cannot write to the directory of the store"))?;
        known.insert("fsync_p50_ms".into(), json!(syncs.percentile_ms(50.0)));
        known.insert("fsync_p99_ms".into(), json!(syncs.percentile_ms(99.0)));
    }
    Ok(known)
}

/// How many processes wanted to run in the last minute, 5 minutes and 15 minutes.
#[must_use]
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// The kind of the file system that a directory is on: that of the longest mount point above it, the last one where
/// several are mounted there.
fn file_system(mounts: &str, dir: &Path) -> String {
    let mounted = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_, point, kind) = (words.next()?, words.next()?, words.next()?);
        let point = point.replace("\\040", " ");
        dir.starts_with(&point).then(|| (Path::new(&point).components().count(), kind))
    });
    mounted.max_by_key(|(depth, _)| *depth).map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// What the disk of a directory takes where whoever writes waits for each append of so many bytes: bytes a second.
pub(crate) fn append_rate(dir: &Path, bytes: usize) -> Result<f64> {
    let measured = || -> std::io::Result<f64> {
        let mut file = tempfile::tempfile_in(dir)?;
        let data = vec![0x55; bytes];
        let (begun, mut written) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_millis(500) {
            file.write_all(&data)?;
            file.sync_data()?;
            written += bytes;
        }
        Ok(written as f64 / begun.elapsed().as_secs_f64())
    };
    measured().map_err(Error::io("cannot write to the directory of the store"))
}

fn syncs(dir: &Path) -> std::io::Result<Latencies> {
    let mut file = tempfile::tempfile_in(dir)?;
    let mut latencies = Latencies::default();
    let begun = Instant::now();
    for _ in 0..APPENDS {
        let before = Instant::now();
        file.write_all(&[0x55; 4096])?;
        file.sync_data()?;
        latencies.record(before.elapsed());
        // A disk that takes 50 ms is known well enough after a few.
        if begun.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    Ok(latencies)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_is_that_of_the_longest_mount_above() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/a\\040b xfs rw 0 0\n";
        let of = |dir: &str| file_system(mounts, Path::new(dir));
        assert_eq!(
            [of("/var/x"), of("/tmpx"), of("/tmp/c"), of("/tmp/a b/c")],
            ["ext4", "ext4", "tmpfs", "xfs"]
        );
        assert_eq!(
            file_system("tmpfs /tmp tmpfs rw 0 0\n/dev/a /tmp ext4 rw 0 0\n", Path::new("/tmp/x")),
            "ext4"
        );
    }

    #[test]
    fn this_machine_is_described() {
        let dir = tempfile::tempdir().unwrap();
        let known = describe(Some(dir.path())).unwrap();
        assert!(known["cpus"].as_u64() > Some(0), "{known:?}");
        assert!(known["fsync_p99_ms"].as_f64() >= known["fsync_p50_ms"].as_f64(), "{known:?}");
        assert_ne!(known["file_system"], "unknown", "{known:?}");
        assert_eq!(load_average().split(' ').count(), 3);
    }
}
