//! The documents that are made from the code, or have to agree with it.

use std::{fmt::Write, fs, path::PathBuf};

use serde_json::Value;
use shared_claims::Rejection;

const PREFACE: &str = "\
# Configuration

This page is made from the doc comments in `auth-service/src/config/` and `realtime-service/src/config/`, by
`UPDATE_DOCUMENTS=1 cargo test -p e2e documentation`; a test holds it to them.

A variable of the environment overrides the TOML file (`--config FILE`), and the file overrides the default. In the file,
`AUTH__TOKEN__LIFETIME_SECS` is `lifetime_secs` in the table `[token]`. A service refuses a key or a variable that does not
exist, and names it. `auth-service check-config` and `realtime-service check-config` print the effective settings.

The secrets come from `LATCHKEY_SECRET_FILE`, one on each line, or from `LATCHKEY_SECRET`, separated by commas, and never from
the TOML file: see [security](security.md#secrets). `RUST_LOG` sets the level of the services' own log lines, `info` by default.

A service that cannot use its settings or secrets prints the reason in one line and exits with code 2.
";

struct Setting {
    field: String,
    variable: Option<String>,
    text: String,
}

/// The code of a service's settings: `mod.rs`, and then the files beside it.
fn source_of(service: &str) -> String {
    let folder = root().join(service).join("src/config");
    let files = fs::read_dir(&folder).expect("a folder");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort_by_key(|path| (!path.ends_with("mod.rs"), path.clone()));
    let texts = paths.iter().map(fs::read_to_string);
    texts.collect::<Result<String, _>>().expect("code")
}

/// The settings in the code: the public fields whose doc comment says where they are set.
fn settings_in(source: &str, prefix: &str) -> Vec<Setting> {
    let (mut settings, mut documentation) = (Vec::new(), Vec::new());
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            documentation.push(text);
            continue;
        }
        if line.starts_with("#[") {
            continue;
        }
        let text = documentation.join(" ");
        documentation.clear();
        let is_setting = text.contains(", default ") || text.contains("Only in the TOML file");
        if line.starts_with("pub ") && line.ends_with(',') && is_setting {
            let variable = text.split('`').find(|part| part.starts_with(prefix));
            let field = line.trim_start_matches("pub ").split(':').next();
            settings.push(Setting {
                field: field.unwrap_or_default().to_owned(),
                variable: variable.map(str::to_owned),
                text: text.clone(),
            });
        }
    }
    settings
}

/// The default of a setting, as one would write it into its variable.
fn default_of(defaults: &Value, variable: &str, prefix: &str) -> String {
    let path = variable[prefix.len()..].to_lowercase().replace("__", "/");
    let value = defaults.pointer(&format!("/{path}"));
    match value.unwrap_or_else(|| panic!("{variable} names no setting")) {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items = items
                .iter()
                .map(|item| item.as_str().expect("a list of strings"));
            items.collect::<Vec<_>>().join(",")
        }
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

fn table_of(source: &str, prefix: &str, defaults: &Value) -> String {
    let mut table = String::from("| setting | meaning |\n|---|---|\n");
    for Setting {
        field,
        variable,
        text,
    } in settings_in(source, prefix)
    {
        let (name, meaning) = match &variable {
            None => (format!("`[[{field}]]`"), text),
            Some(variable) => {
                let default = default_of(defaults, variable, prefix);
                assert!(
                    text.contains(&format!("default {default}"))
                        || text.contains(&format!("default `{default}`")),
                    "{variable} is {default} by default, but its documentation says: {text}"
                );
                let place = format!("`{variable}`, default ");
                (format!("`{variable}`"), text.replace(&place, "Default: "))
            }
        };
        writeln!(table, "| {name} | {meaning} |").expect("a string takes all");
    }
    table
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_page_of_settings_is_what_the_code_says() {
    let auth = table_of(
        &source_of("auth-service"),
        "AUTH__",
        &serde_json::to_value(auth_service::config::Settings::default()).expect("plain data"),
    );
    let realtime = table_of(
        &source_of("realtime-service"),
        "REALTIME__",
        &serde_json::to_value(realtime_service::config::Config::default()).expect("plain data"),
    );
    let page = format!("{PREFACE}\n## auth-service\n\n{auth}\n## realtime-service\n\n{realtime}");
    let path = root().join("docs/configuration.md");
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(&path, &page).expect("the page can be written");
    }
    let current = fs::read_to_string(&path).expect("docs/configuration.md");
    assert_eq!(
        current, page,
        "run UPDATE_DOCUMENTS=1 cargo test -p e2e documentation"
    );
}

#[test]
fn the_protocol_lists_every_refusal_and_no_other() {
    let protocol = fs::read_to_string(root().join("docs/protocol.md")).expect("docs/protocol.md");
    let (_, table) = protocol
        .split_once("| message | `code` | `reason` |\n")
        .expect("the table");
    let listed: Vec<&str> = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let expected: Vec<String> = Rejection::ALL
        .iter()
        .map(|one| format!("| {} | {} | {} |", one.message(), one.code(), one.reason()))
        .collect();
    assert_eq!(listed, expected);
}

/// The files of Rust code, by their paths below the root.
fn code() -> Vec<(String, String)> {
    let mut folders: Vec<PathBuf> = ["auth-service", "realtime-service", "shared-claims", "tests"]
        .map(|name| root().join(name))
        .to_vec();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("code");
                files.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    files
}

/// Checks that each test that `text`, of the document at `path`, names by module and function exists.
fn assert_named_tests_exist(path: &str, text: &str) {
    let files = code();
    let mut named = 0;
    for test in text.split('`').filter(|part| part.contains("::")) {
        let (modules, function) = test.rsplit_once("::").expect("a path");
        let is_there = files.iter().any(|(path, text)| {
            let is_file = modules.split("::").all(|module| {
                path.contains(&format!("/{module}/")) || path.ends_with(&format!("/{module}.rs"))
            });
            is_file && text.contains(&format!("fn {function}("))
        });
        assert!(is_there, "{path} names {test}, which does not exist");
        named += 1;
    }
    assert!(named > 0, "{path} names no test");
}

#[test]
fn every_test_that_the_table_of_attacks_names_is_there() {
    let path = "docs/security.md";
    let security = fs::read_to_string(root().join(path)).expect(path);
    let (_, attacks) = security.split_once("## Attacks").expect("the table");
    assert_named_tests_exist(path, attacks);
}

#[test]
fn every_test_that_the_table_of_faults_names_is_there() {
    let path = "docs/reliability.md";
    let reliability = fs::read_to_string(root().join(path)).expect(path);
    assert_named_tests_exist(path, &reliability);
}

/// The number and the name of the case that a line of the stock clients' tests begins, if it does.
fn case_of_test(line: &str) -> Option<(u32, &str)> {
    let call = line.trim_start().strip_prefix("test(")?;
    let quote = call.chars().next()?;
    let (number, name) = call[1..].split(quote).next()?.split_once(". ")?;
    Some((number.parse().ok()?, name))
}

/// The number and the name of the case that a line of the table is about, if it is about one.
fn case_of_row(line: &str) -> Option<(u32, &str)> {
    let mut cells = line.strip_prefix("| ")?.split(" | ");
    Some((cells.next()?.parse().ok()?, cells.next()?))
}

#[test]
fn the_tests_named_to_users_of_socketio_jwt_exist_and_each_of_their_35_cases_has_one() {
    let path = "docs/clients.md";
    let clients = fs::read_to_string(root().join(path)).expect(path);
    let (_, moving) = clients
        .split_once("## Moving over from socketio-jwt")
        .expect("the tables");
    assert_named_tests_exist(path, moving);
    let tests = "tests/clients/conformance.test.mjs";
    let tests = fs::read_to_string(root().join(tests)).expect(tests);
    let tested: Vec<_> = tests.lines().filter_map(case_of_test).collect();
    let listed: Vec<_> = moving.lines().filter_map(case_of_row).collect();
    assert_eq!(listed, tested);
    let numbers: Vec<_> = tested.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=35).collect::<Vec<_>>());
}
