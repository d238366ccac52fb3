//! The secret and the settings: what is refused at the start, and how.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::{
    fixture::{Outcome, SECRET, Workbench},
    serving::Serving,
};

fn start_with(variables: &[(&str, &str)]) -> Outcome {
    let bench = Workbench::new();
    let mut command = bench.command(&["check-config"]);
    command.envs(variables.iter().copied());
    command.output().expect("it runs").into()
}

#[test]
fn a_good_secret_is_taken_and_not_shown() {
    let printed = start_with(&[("LATCHKEY_SECRET", SECRET)]).printed();
    assert!(printed.contains("token.lifetime_secs = 900\n"), "{printed}");
    assert!(printed.contains("1 [redacted]"), "{printed}");
    assert!(!printed.contains(SECRET), "{printed}");
}

#[test]
fn serving_needs_a_secret_of_32_bytes() {
    let bench = Workbench::new();
    for (value, complaint) in [
        (None, "LATCHKEY_SECRET: not set"),
        (Some(""), "LATCHKEY_SECRET: holds no secret"),
        (
            Some(&SECRET[1..]),
            "LATCHKEY_SECRET: secret number 1 has 31 bytes",
        ),
    ] {
        for arguments in [&[][..], &["serve"], &["check-config"]] {
            let mut command = bench.command(arguments);
            command.envs(value.map(|value| ("LATCHKEY_SECRET", value)));
            let outcome: Outcome = command.output().expect("it runs").into();
            let line = outcome.refused(2);
            assert!(line.contains(complaint), "{line}");
            assert!(!line.contains(&SECRET[1..]), "{line}");
        }
    }
}

#[test]
fn a_secret_file_is_read_and_a_missing_one_is_named() {
    let bench = Workbench::new();
    let path = bench.path().join("secret");
    fs::write(&path, format!("{SECRET}\n")).expect("written");
    let path = path.to_str().expect("text");
    start_with(&[("LATCHKEY_SECRET_FILE", path)]).printed();
    let line = start_with(&[("LATCHKEY_SECRET_FILE", "/nowhere")]).refused(2);
    assert!(
        line.contains("LATCHKEY_SECRET_FILE: cannot read /nowhere"),
        "{line}"
    );
}

#[test]
fn a_wrong_setting_is_named_and_not_repeated() {
    for (name, value) in [
        ("AUTH__PUBLIC_URL", "hidden"),
        ("AUTH__TOKEN__LIFETIME_SECS", "hidden"),
        ("AUTH__COLOUR", "hidden"),
        ("AUTH__SECRET", "hidden"),
    ] {
        let line = start_with(&[("LATCHKEY_SECRET", SECRET), (name, value)]).refused(2);
        let (_, key) = name.rsplit_once("__").expect("a prefix");
        assert!(line.to_ascii_uppercase().contains(key), "{line}");
        assert!(!line.contains("hidden"), "{line}");
    }
}

#[test]
fn a_file_of_settings_is_read_and_what_it_must_not_hold_is_refused() {
    let bench = Workbench::new();
    let path = bench.path().join("auth.toml");
    let check = |text: &str| -> Outcome {
        fs::write(&path, text).expect("written");
        let mut command = bench.command(&["check-config", "--config", "auth.toml"]);
        command.env("LATCHKEY_SECRET", SECRET);
        command.output().expect("it runs").into()
    };
    let printed = check("[token]\nlifetime_secs = 60\n").printed();
    assert!(printed.contains("token.lifetime_secs = 60\n"), "{printed}");
    let line = check("secret = 'hidden'\n").refused(2);
    assert!(
        line.contains("`secret`") && !line.contains("hidden"),
        "{line}"
    );
    let line = check("= hidden\n").refused(2);
    assert!(
        line.contains("auth.toml") && !line.contains("hidden"),
        "{line}"
    );
}

#[test]
fn a_secret_is_made_once() {
    let bench = Workbench::new();
    let path = bench.path().join("secret");
    let printed = bench.run(&["secret", "init", "secret"]).printed();
    assert_eq!(printed, "made secret\n");
    let made = fs::read_to_string(&path).expect("a secret");
    assert!(!printed.contains(made.trim()));
    assert_eq!(made.trim().len(), 43);
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);

    let printed = bench.run(&["secret", "init", "secret"]).printed();
    assert_eq!(printed, "kept secret\n");
    assert_eq!(fs::read_to_string(&path).expect("a secret"), made);
    let files = fs::read_dir(bench.path()).expect("a directory").count();
    assert_eq!(files, 1, "a draft was left behind");
}

#[test]
fn of_many_that_make_the_secret_at_once_all_have_the_same() {
    let bench = Workbench::new();
    let children: Vec<_> = (0..8)
        .map(|_| bench.command(&["secret", "init", "secret"]).spawn())
        .collect();
    let mut made = 0;
    for child in children {
        let output = child.expect("it runs").wait_with_output().expect("it ends");
        made += usize::from(Outcome::from(output).printed() == "made secret\n");
    }
    assert_eq!(made, 1);
}

#[test]
fn a_file_that_holds_no_secret_is_left_alone() {
    let bench = Workbench::new();
    let path = bench.path().join("secret");
    fs::write(&path, "hidden").expect("written");
    let line = bench.run(&["secret", "init", "secret"]).refused(2);
    assert!(
        line.contains("has 6 bytes") && !line.contains("hidden"),
        "{line}"
    );
    assert_eq!(fs::read_to_string(&path).expect("a file"), "hidden");
}

#[test]
fn a_secret_or_a_database_that_others_can_read_is_warned_of() {
    for (mode, is_warned) in [(0o600, false), (0o644, true)] {
        let bench = Workbench::new();
        let path = bench.path().join("secret");
        fs::write(&path, format!("{SECRET}\n")).expect("written");
        bench.run(&["migrate"]).printed();
        let database = bench.path().join("latchkey.db");
        for file in [&path, &database] {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("a mode");
        }
        let mut command = bench.command(&[]);
        command.env("LATCHKEY_SECRET_FILE", &path);
        let log = Serving::spawn_with_its_secret(&mut command)
            .end_by("TERM")
            .stderr;
        for warning in [
            "a file with secrets can be read by everybody",
            "the database can be read by others",
        ] {
            assert_eq!(log.contains(warning), is_warned, "{mode:o}: {log}");
        }
    }
}
