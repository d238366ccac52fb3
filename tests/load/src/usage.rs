//! CPU time and memory of a process, from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

/// CPU time of each thread of a process, in nanoseconds.
type ThreadTimes = HashMap<String, u64>;

/// Measures a server and this process from its creation on.
pub(crate) struct Meter {
    servers: Vec<(u32, ThreadTimes)>,
    generator: ThreadTimes,
    start: Instant,
}

/// Use of the CPU during a measurement, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// Elapsed time.
    pub(crate) wall_secs: f64,
    /// CPU time of the server, or of all of them, if the processes are known.
    pub(crate) server_secs: Option<f64>,
    /// CPU time of the generator.
    pub(crate) generator_secs: f64,
}

impl Meter {
    /// Starts a measurement of the servers `pids`, if any is known, and of the generator.
    pub(crate) fn start(pids: impl IntoIterator<Item = u32>) -> Self {
        let pids = pids.into_iter();
        Self {
            servers: pids.map(|pid| (pid, thread_times(pid))).collect(),
            generator: thread_times(std::process::id()),
            start: Instant::now(),
        }
    }

    /// Starts a measurement that counts all CPU time of the new process `pid`.
    pub(crate) fn since_birth(pid: u32) -> Self {
        Self {
            servers: vec![(pid, ThreadTimes::new())],
            ..Self::start(None)
        }
    }

    /// Returns the use since the start.
    pub(crate) fn used(&self) -> Used {
        let since = |pid, before: &ThreadTimes| seconds_between(before, &thread_times(pid));
        Used {
            wall_secs: self.start.elapsed().as_secs_f64(),
            server_secs: self
                .servers
                .iter()
                .map(|(pid, before)| since(*pid, before))
                .reduce(|sum, secs| sum + secs),
            generator_secs: since(std::process::id(), &self.generator),
        }
    }
}

/// Returns the memory that a process keeps resident, in MB of 1024 kB.
pub(crate) fn resident_mb(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    resident_kb(&status).map(|kb| kb as f64 / 1024.0)
}

fn resident_kb(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn thread_times(pid: u32) -> ThreadTimes {
    let tasks = PathBuf::from(format!("/proc/{pid}/task"));
    let entries = fs::read_dir(tasks).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
            let time = text.split_whitespace().next()?.parse().ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), time))
        })
        .collect()
}

/// Adds up the time of all threads. A thread that has ended since is not counted.
fn seconds_between(before: &ThreadTimes, after: &ThreadTimes) -> f64 {
    let nanoseconds: u64 = after
        .iter()
        .map(|(thread, time)| time.saturating_sub(before.get(thread).copied().unwrap_or(0)))
        .sum();
    nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_status() {
        assert_eq!(
            resident_kb("Name:\tx\nVmRSS:\t   12345 kB\nThreads:\t1\n"),
            Some(12_345)
        );
        assert_eq!(resident_kb("Name:\tx\n"), None);
        assert!(resident_mb(std::process::id()).is_some_and(|mb| mb > 0.0));
    }

    #[test]
    fn new_threads_count_and_ended_threads_do_not() {
        let times = |list: &[(&str, u64)]| -> ThreadTimes {
            list.iter()
                .map(|(thread, time)| ((*thread).to_owned(), *time))
                .collect()
        };
        let before = times(&[("1", 1_000_000_000), ("2", 5_000_000_000)]);
        let after = times(&[("1", 1_500_000_000), ("3", 250_000_000)]);
        assert!((seconds_between(&before, &after) - 0.75).abs() < 1e-9);
    }
}
