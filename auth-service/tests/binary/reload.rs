//! SIGHUP: the secrets and the certificate are read again, each for itself.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use crate::{
    fixture::{SECRET, Workbench},
    serving::Serving,
};

const NEXT_SECRET: &str = "Qe7Rt2Yu9Io4Pa1Sd6Fg3Hj8Kl5Zx0Cv";

const SECRETS_READ: &str = "the secrets were read again";
const SECRETS_KEPT: &str = "the secrets are left as they were";
const CERTIFICATE_READ: &str = "the certificate was read again";
const CERTIFICATE_KEPT: &str = "the certificate is left as it was";

fn write_certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    fs::write(folder.join("cert.pem"), made.cert.pem()).expect("written");
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
}

/// The lines of the log, as they come.
fn log_of(serving: &mut Serving) -> Receiver<String> {
    let log = serving.child.stderr.take().expect("stderr");
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// Waits for the lines that two things leave at a signal.
fn assert_logged(lines: &Receiver<String>, expected: [&str; 2]) {
    let mut read: Vec<String> = Vec::new();
    while !expected
        .iter()
        .all(|one| read.iter().any(|line| line.contains(one)))
    {
        let line = lines.recv_timeout(Duration::from_secs(10));
        read.push(line.unwrap_or_else(|_| panic!("{expected:?} in {read:#?}")));
    }
    for other in [
        SECRETS_READ,
        SECRETS_KEPT,
        CERTIFICATE_READ,
        CERTIFICATE_KEPT,
    ] {
        let count = read.iter().filter(|line| line.contains(other)).count();
        let expected = usize::from(expected.contains(&other));
        assert_eq!(count, expected, "{other} in {read:#?}");
    }
    assert!(
        !read.iter().any(|line| line.contains("hidden")),
        "{read:#?}"
    );
}

#[test]
fn a_bad_certificate_keeps_no_secret_in_use_and_a_bad_secret_no_certificate() {
    let bench = Workbench::new();
    let write = |name: &str, text: &str| {
        fs::write(bench.path().join(name), text).expect("written");
    };
    write_certificate(bench.path());
    write("secrets", SECRET);
    let mut command = bench.command(&["serve"]);
    command
        .env("LATCHKEY_SECRET_FILE", "secrets")
        .env("AUTH__TLS__CERT_FILE", "cert.pem")
        .env("AUTH__TLS__KEY_FILE", "key.pem");
    let mut serving = Serving::spawn_with_its_secret(&mut command);
    let log = log_of(&mut serving);

    write("cert.pem", "hidden");
    write("secrets", &format!("{NEXT_SECRET}\n{SECRET}\n"));
    serving.signal("HUP");
    assert_logged(&log, [SECRETS_READ, CERTIFICATE_KEPT]);

    write_certificate(bench.path());
    write("secrets", "hidden");
    serving.signal("HUP");
    assert_logged(&log, [SECRETS_KEPT, CERTIFICATE_READ]);

    write("secrets", NEXT_SECRET);
    serving.signal("HUP");
    assert_logged(&log, [SECRETS_READ, CERTIFICATE_READ]);
    assert_eq!(serving.end_by("TERM").code, Some(0));
}
