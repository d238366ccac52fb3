//! The development data: a secret, a database, two demo users; made once, kept between runs.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::settings::Settings;

const DEMO_USERS: [(&str, &str); 2] = [("alice", "Alice Example"), ("bob", "Bob Example")];

/// Thirty-two characters, five bits each, none to be mistaken for another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Rooms in which the demo users may do everything, so that there is one to enter besides the lobby.
const DEMO_ROOMS: &str = "demo:*";

/// Makes the directory and the secret, unless they are there.
///
/// # Errors
///
/// When the directory cannot be made, or auth-service refuses.
pub(crate) fn make_secret(settings: &Settings, auth: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(settings.root.join(&settings.dir))
        .with_context(|| format!("{} could not be made", settings.dir))?;
    let mut command = settings.auth_command(auth);
    command.args(["secret", "init", &settings.secret()]);
    output(&mut command, None)?;
    Ok(())
}

/// Makes the database and the demo users, unless they are there, and says what a new user's password is.
///
/// # Errors
///
/// When auth-service refuses.
pub(crate) fn prepare(settings: &Settings, auth: &Path) -> anyhow::Result<()> {
    output(settings.auth_command(auth).arg("migrate"), None)?;
    let listing = output(settings.auth_command(auth).args(["user", "list"]), None)?;
    let mut added = Vec::new();
    for (user, full_name) in DEMO_USERS {
        if !lists(&listing, user) {
            let password = new_password()?;
            let mut command = settings.auth_command(auth);
            command.args(["user", "add", user, "--name", full_name, "--password-stdin"]);
            output(&mut command, Some(&password))?;
            let mut command = settings.auth_command(auth);
            command.args(["user", "grant", user, "--room", DEMO_ROOMS]);
            command.args(["--actions", "sub,pub,hst,prs"]);
            output(&mut command, None)?;
            added.push((user, password));
        }
    }
    announce(settings, &added);
    Ok(())
}

fn announce(settings: &Settings, added: &[(&str, String)]) {
    if !added.is_empty() {
        println!("\ncargo dev: new demo users, with passwords that are shown only now:\n");
        for (user, password) in added {
            println!("    {user:<8} {password}");
        }
        println!();
    }
    if added.len() < DEMO_USERS.len() {
        println!("cargo dev: the demo users are there from an earlier run");
    }
    let prefix = settings.command_prefix();
    println!(
        "cargo dev: commands for the accounts, in another terminal, such as a new password for alice:\n\n    \
         {prefix} user passwd alice\n"
    );
}

/// Whether some line of `user list` begins with the name.
fn lists(listing: &str, user: &str) -> bool {
    listing
        .lines()
        .any(|line| line.split_whitespace().next() == Some(user))
}

/// Runs a command to its end and returns what it printed; a failure carries its own words.
fn output(command: &mut Command, input: Option<&str>) -> anyhow::Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("auth-service could not be started")?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        writeln!(stdin, "{input}").context("auth-service does not read its input")?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "auth-service: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Eighty random bits, in four groups that can be typed.
fn new_password() -> anyhow::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).context("no random numbers")?;
    Ok(spell(&random))
}

fn spell(random: &[u8; 16]) -> String {
    let groups = random.chunks(4).map(|group| {
        group
            .iter()
            .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
            .collect::<String>()
    });
    groups.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_can_be_read_and_typed() {
        let password = spell(&[0, 1, 2, 3, 28, 29, 30, 31, 32, 255, 0, 0, 7, 7, 7, 7]);
        assert_eq!(password, "abcd-6789-a9aa-hhhh");
    }

    #[test]
    fn every_password_differs() {
        assert_ne!(
            new_password().expect("random"),
            new_password().expect("random")
        );
    }

    #[test]
    fn a_user_is_listed_by_the_whole_name() {
        let listing = "alice2  Alice Two\nbob     Bob Example\n";
        assert!(lists(listing, "bob"));
        assert!(!lists(listing, "alice"));
        assert!(!lists(listing, "Example"));
    }
}
