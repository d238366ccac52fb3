//! The settings that the user has made, by variables or a file: `cargo dev` adds to them what it needs and replaces none.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

/// The values of one service's settings by their names in its file, such as `revocation.gateways`.
#[derive(Default)]
pub(crate) struct Effective(BTreeMap<String, Value>);

impl Effective {
    /// Reads the settings that differ from the defaults, by `check-config` of the service.
    ///
    /// # Errors
    ///
    /// When the service refuses a setting: with its words, which name the setting and the allowed values.
    pub(crate) fn read(
        binary: &Path,
        directory: &Path,
        secret: &str,
        file: Option<&str>,
    ) -> anyhow::Result<Self> {
        let command = || {
            let mut command = Command::new(binary);
            command
                .current_dir(directory)
                .env_remove("LATCHKEY_SECRET")
                .env("LATCHKEY_SECRET_FILE", secret);
            command
        };
        let mut with_defaults = command();
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("AUTH__") || name.starts_with("REALTIME__") {
                with_defaults.env_remove(name);
            }
        }
        let defaults = parse(&printed(&mut with_defaults, None)?);
        let mut made = parse(&printed(&mut command(), file)?);
        made.retain(|name, value| defaults.get(name) != Some(value));
        Ok(Self(made))
    }

    /// Returns whether the user has set this.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns the text that the user has set.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Returns the user's list and those of `needed` that it does not have, as a variable takes them.
    pub(crate) fn list_with(&self, name: &str, needed: &[String]) -> String {
        let own = self.0.get(name).and_then(Value::as_array);
        let own = own.into_iter().flatten().filter_map(Value::as_str);
        let mut list: Vec<&str> = own.collect();
        for text in needed {
            if !list.contains(&text.as_str()) {
                list.push(text);
            }
        }
        list.join(",")
    }
}

fn printed(command: &mut Command, file: Option<&str>) -> anyhow::Result<String> {
    if let Some(file) = file {
        command.args(["--config", file]);
    }
    let output = command
        .arg("check-config")
        .stdin(Stdio::null())
        .output()
        .context("a service could not be started")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads lines of `name = JSON`, or one JSON object, which is what the two services print.
fn parse(printed: &str) -> BTreeMap<String, Value> {
    let mut settings = BTreeMap::new();
    if let Ok(object) = serde_json::from_str::<Value>(printed) {
        flatten("", &object, &mut settings);
        return settings;
    }
    for line in printed.lines() {
        if let Some((name, value)) = line.split_once(" = ")
            && let Ok(value) = serde_json::from_str(value)
        {
            settings.insert(name.to_owned(), value);
        }
    }
    settings
}

fn flatten(prefix: &str, value: &Value, settings: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{name}"), member, settings);
            }
        }
        leaf => {
            settings.insert(prefix.to_owned(), leaf.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_services_print_settings_that_are_read() {
        let auth = parse("origins = [\"http://a\"]\ntoken.lifetime_secs = 900\n# secrets: 1\n");
        assert_eq!(auth["origins"], serde_json::json!(["http://a"]));
        assert_eq!(auth["token.lifetime_secs"], 900);
        let realtime =
            parse("{\n  \"api\": {\n    \"listen\": \"off\"\n  },\n  \"origins\": []\n}");
        assert_eq!(realtime["api.listen"], "off");
        assert_eq!(realtime["origins"], serde_json::json!([]));
    }

    #[test]
    fn what_is_needed_is_added_to_what_the_user_has() {
        let made = Effective(parse(
            "origins = [\"https://app.example.org\", \"http://b\"]",
        ));
        let needed = ["http://b".to_owned(), "http://c".to_owned()];
        let list = made.list_with("origins", &needed);
        assert_eq!(list, "https://app.example.org,http://b,http://c");
        assert_eq!(
            made.list_with("revocation.gateways", &needed),
            "http://b,http://c"
        );
    }
}
