//! Description of the machine and of the versions that were compared.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Returns lines of the form "name: value" about the machine.
pub(crate) fn describe() -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let memory = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse::<f64>().ok())
        .map(|kb| format!("{:.0} GB", kb / 1024.0 / 1024.0));
    let cores = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let lines = [
        ("Processor", field(&cpu, "model name")),
        ("Cores", Some(cores.to_string())),
        ("Memory", memory),
        (
            "Linux",
            Some(read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ),
        (
            "Load at the end",
            read("/proc/loadavg").split(' ').next().map(str::to_owned),
        ),
    ];
    let known = |(name, value): (&str, Option<String>)| Some((name.to_owned(), value?));
    lines.into_iter().filter_map(known).collect()
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Returns the versions of everything that takes part.
pub(crate) fn versions(root: &Path, bun: Option<&Path>) -> Vec<(String, String)> {
    let mut versions = Vec::new();
    let mut add = |name: &str, version: Option<String>| {
        versions.extend(version.map(|version| (name.to_owned(), version)));
    };
    add(
        "Latchkey",
        output(root, Path::new("git"), &["describe", "--always", "--dirty"]),
    );
    add("rustc", output(root, Path::new("rustc"), &["--version"]));
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    for name in ["socketioxide", "tokio", "actix-web"] {
        add(name, locked(&lock, name));
    }
    add("Node", output(root, Path::new("node"), &["--version"]));
    if let Some(bun) = bun {
        add("Bun", output(root, bun, &["--version"]));
    }
    let packages =
        fs::read_to_string(root.join("tests/load/peers/package.json")).unwrap_or_default();
    let packages: Value = serde_json::from_str(&packages).unwrap_or_default();
    for (name, version) in packages["dependencies"].as_object().into_iter().flatten() {
        if name != "bun" {
            add(name, version.as_str().map(str::to_owned));
        }
    }
    versions
}

fn output(root: &Path, program: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Finds the version of a package in Cargo.lock.
fn locked(lock: &str, name: &str) -> Option<String> {
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_lock_file() {
        let lock = "[[package]]\nname = \"tokio\"\nversion = \"1.2.3\"\n";
        assert_eq!(locked(lock, "tokio"), Some("1.2.3".to_owned()));
        assert_eq!(locked(lock, "toki"), None);
    }

    #[test]
    fn fields_of_proc_files_are_read() {
        assert_eq!(
            field("model name\t: Fast CPU\n", "model name"),
            Some("Fast CPU".to_owned())
        );
        assert_eq!(
            field("MemTotal:  100 kB\n", "MemTotal"),
            Some("100 kB".to_owned())
        );
    }
}
