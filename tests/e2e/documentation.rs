//! The documents that are made from the code, or have to agree with it.

use std::{fmt::Write, fs, path::PathBuf};

use serde_json::Value;
use shared_claims::Rejection;

const PREFACE: &str = "\
# Configuration

This page is made from the doc comments of `auth-service/src/config/mod.rs` and `realtime-service/src/config/mod.rs`, by
`UPDATE_DOCUMENTS=1 cargo test -p e2e documentation`; a test holds it to them.

Defaults stand in the code, then a TOML file (`--config FILE`), then the environment: the last one that speaks wins. In
the file, `AUTH__TOKEN__LIFETIME_SECS` is `lifetime_secs` in the table `[token]`. A key or a variable that does not exist is
refused by name. `auth-service check-config` and `realtime-service check-config` print what is in effect.

The secrets come from `LATCHKEY_SECRET_FILE`, one a line, or `LATCHKEY_SECRET`, separated by commas, and never from the
file: see [security](security.md#secrets). `RUST_LOG` sets the level of the services' own log lines, `info` by default.

A service that cannot use its settings or secrets says why in one line and exits with 2.
";

struct Setting {
    variable: Option<String>,
    text: String,
}

/// The settings in a source file: the public fields whose doc comment says where they are set.
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
            settings.push(Setting {
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
        other => other.to_string(),
    }
}

fn table_of(source: &str, prefix: &str, defaults: &Value) -> String {
    let mut table = String::from("| setting | meaning |\n|---|---|\n");
    for Setting { variable, text } in settings_in(source, prefix) {
        let (name, meaning) = match &variable {
            None => ("`[[rooms]]`".to_owned(), text),
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
    let read = |path: &str| fs::read_to_string(root().join(path)).expect(path);
    let auth = table_of(
        &read("auth-service/src/config/mod.rs"),
        "AUTH__",
        &serde_json::to_value(auth_service::config::Settings::default()).expect("plain data"),
    );
    let realtime = table_of(
        &read("realtime-service/src/config/mod.rs"),
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
