//! Where things are: the repository, the three ports, the directory for development data.

use std::env;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::build::Binaries;
use crate::effective::Effective;

const USAGE: &str =
    "cargo dev takes --auth-config FILE and --realtime-config FILE, relative to the repository";

/// What one run needs to know.
pub(crate) struct Settings {
    /// The root of the repository; every command runs there.
    pub(crate) root: PathBuf,
    /// Relative to the root, so that it can stand in a `sqlite://` URL as it is.
    pub(crate) dir: String,
    pub(crate) auth: Port,
    pub(crate) realtime: Port,
    /// Where the gateway listens for back ends.
    pub(crate) api: Port,
    /// The settings files of the two services, if the user names them.
    pub(crate) auth_file: Option<String>,
    pub(crate) realtime_file: Option<String>,
    /// Settings of the user for the two services; read once both are built.
    pub(crate) auth_made: Effective,
    pub(crate) realtime_made: Effective,
}

impl Settings {
    /// Reads the variables that `cargo run` sets, the optional ones, and the arguments.
    ///
    /// # Errors
    ///
    /// When not started by cargo, or when a variable or an argument cannot be used.
    pub(crate) fn from_env(arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let (auth_file, realtime_file) = files_of(arguments)?;
        let package = env::var_os("CARGO_MANIFEST_DIR").context("run it as `cargo dev`")?;
        let root = Path::new(&package).ancestors().nth(2);
        let dir = env::var("DEV_DIR").unwrap_or_else(|_| ".dev".to_owned());
        if dir.is_empty() || dir.contains(['?', '#', '%', ' ']) {
            bail!("DEV_DIR is used in a URL: choose a plain path");
        }
        Ok(Self {
            root: root.context("the repository was not found")?.to_owned(),
            dir,
            auth: Port::from_env("AUTH_PORT", 8080)?,
            realtime: Port::from_env("REALTIME_PORT", 9000)?,
            api: Port::from_env("API_PORT", 9001)?,
            auth_file,
            realtime_file,
            auth_made: Effective::default(),
            realtime_made: Effective::default(),
        })
    }

    /// Checks before the build that the three ports are free, as far as the user has not set addresses.
    ///
    /// # Errors
    ///
    /// When something listens on one of them already, or when it may not be used.
    pub(crate) fn ports_must_be_free(&self) -> anyhow::Result<()> {
        for (variable, port) in [
            ("AUTH__LISTEN", &self.auth),
            ("REALTIME__LISTEN", &self.realtime),
            ("REALTIME__API__LISTEN", &self.api),
        ] {
            if env::var_os(variable).is_none() {
                port.must_be_free()?;
            }
        }
        Ok(())
    }

    /// Reads what the user has set.
    ///
    /// # Errors
    ///
    /// When a service refuses a setting.
    pub(crate) fn read_made(&mut self, binaries: &Binaries) -> anyhow::Result<()> {
        let read = |binary: &Path, file: &Option<String>| {
            Effective::read(binary, &self.root, &self.secret(), file.as_deref())
        };
        let auth = read(&binaries.auth, &self.auth_file)?;
        let realtime = read(&binaries.realtime, &self.realtime_file)?;
        (self.auth_made, self.realtime_made) = (auth, realtime);
        Ok(())
    }

    /// A command of auth-service, or the service itself, with the development data.
    pub(crate) fn auth_command(&self, binary: &Path) -> Command {
        let made = &self.auth_made;
        let mut command = self.command(binary, self.auth_file.as_deref());
        command
            .env("AUTH__ORIGINS", made.list_with("origins", &self.pages()))
            .env(
                "AUTH__REVOCATION__GATEWAYS",
                made.list_with("revocation.gateways", &[self.realtime.url()]),
            );
        for (name, variable, own) in [
            ("listen", "AUTH__LISTEN", self.auth.listen()),
            ("public_url", "AUTH__PUBLIC_URL", self.auth.url()),
            ("database_url", "AUTH__DATABASE_URL", self.database_url()),
            ("docs", "AUTH__DOCS", "true".to_owned()),
        ] {
            if !made.has(name) {
                command.env(variable, own);
            }
        }
        command
    }

    /// The issuer's public URL.
    pub(crate) fn issuer(&self) -> String {
        let made = self.auth_made.text("public_url");
        made.map_or_else(|| self.auth.url(), str::to_owned)
    }

    /// The gateway, trusting the issuer above.
    pub(crate) fn realtime_command(&self, binary: &Path) -> Command {
        let made = &self.realtime_made;
        let mut command = self.command(binary, self.realtime_file.as_deref());
        command.env(
            "REALTIME__ORIGINS",
            made.list_with("origins", &self.pages()),
        );
        for (name, variable, own) in [
            ("listen", "REALTIME__LISTEN", self.realtime.listen()),
            ("api.listen", "REALTIME__API__LISTEN", self.api.listen()),
            ("api.docs", "REALTIME__API__DOCS", "true".to_owned()),
            ("issuer", "REALTIME__ISSUER", self.issuer()),
            (
                "revocations.file",
                "REALTIME__REVOCATIONS__FILE",
                self.revocations(),
            ),
        ] {
            if !made.has(name) {
                command.env(variable, own);
            }
        }
        command
    }

    /// The start of every command for the accounts of this run, to be typed in the repository. A database of the user's
    /// is left out: it is in the environment or the file already, and its URL may hold a password.
    pub(crate) fn command_prefix(&self) -> String {
        let mut prefix = format!("LATCHKEY_SECRET_FILE={} ", self.secret());
        if !self.auth_made.has("database_url") {
            prefix.push_str(&format!("AUTH__DATABASE_URL={} ", self.database_url()));
        }
        prefix.push_str("cargo run -q -p auth-service --");
        if let Some(file) = &self.auth_file {
            prefix.push_str(&format!(" --config {file}"));
        }
        prefix
    }

    /// The file of the secret that both services share.
    pub(crate) fn secret(&self) -> String {
        format!("{}/secret", self.dir)
    }

    /// The file of what was logged out before its tokens ended.
    pub(crate) fn revocations(&self) -> String {
        format!("{}/revocations.jsonl", self.dir)
    }

    /// The accounts, unless the user has set another database.
    fn database_url(&self) -> String {
        format!("sqlite://{}/latchkey.db", self.dir)
    }

    fn command(&self, binary: &Path, file: Option<&str>) -> Command {
        let mut command = Command::new(binary);
        if let Some(file) = file {
            command.args(["--config", file]);
        }
        command
            .current_dir(&self.root)
            .env_remove("LATCHKEY_SECRET")
            .env("LATCHKEY_SECRET_FILE", self.secret());
        command
    }

    /// The origins of the gateway's page.
    fn pages(&self) -> [String; 2] {
        ["localhost", "127.0.0.1"].map(|host| format!("http://{host}:{}", self.realtime.number))
    }
}

/// Reads `--auth-config FILE` and `--realtime-config FILE`.
fn files_of(
    mut arguments: impl Iterator<Item = String>,
) -> anyhow::Result<(Option<String>, Option<String>)> {
    let (mut auth, mut realtime) = (None, None);
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "--auth-config" => &mut auth,
            "--realtime-config" => &mut realtime,
            other => bail!("{other} is unknown: {USAGE}"),
        };
        *place = Some(arguments.next().with_context(|| USAGE)?);
    }
    Ok((auth, realtime))
}

/// A port on the loopback interface, and the variable that changes it.
pub(crate) struct Port {
    number: u16,
    variable: &'static str,
}

impl Port {
    fn from_env(variable: &'static str, default: u16) -> anyhow::Result<Self> {
        let number = match env::var(variable) {
            Ok(text) => text.parse().ok().filter(|number| *number > 0),
            Err(_) => Some(default),
        };
        let number = number.with_context(|| format!("{variable} must be a port, 1 to 65535"))?;
        Ok(Self { number, variable })
    }

    /// Checks before the build, so that nobody waits a minute to be told.
    ///
    /// # Errors
    ///
    /// When something listens there already, or when the port may not be used.
    pub(crate) fn must_be_free(&self) -> anyhow::Result<()> {
        let Self { number, variable } = self;
        let problem = match TcpListener::bind((Ipv4Addr::LOCALHOST, *number)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AddrInUse => "is in use".to_owned(),
            Err(error) => format!("cannot be used ({error})"),
        };
        let other = number.checked_add(100).unwrap_or(8080);
        bail!(
            "port {number} {problem}: stop what listens there, or choose another port, as in `{variable}={other} cargo dev`"
        )
    }

    /// The address to listen on.
    pub(crate) fn listen(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }

    /// The address to open in a browser.
    pub(crate) fn url(&self) -> String {
        format!("http://localhost:{}", self.number)
    }
}

/// Takes away what `cargo run` told this program about itself: a cargo started by it would see
/// other variables than one started by hand, and build some crates anew.
pub(crate) fn forget_own_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if is_about_own_package(&name) {
            command.env_remove(name);
        }
    }
}

fn is_about_own_package(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_one_line_that_says_what_to_do() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let number = taken.local_addr().expect("an address").port();
        let port = Port {
            number,
            variable: "AUTH_PORT",
        };

        let line = port
            .must_be_free()
            .expect_err("the port is taken")
            .to_string();

        assert!(
            line.starts_with(&format!("port {number} is in use: ")),
            "{line}"
        );
        assert!(line.contains("AUTH_PORT="), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }

    #[test]
    fn a_port_that_was_let_go_is_free_again() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let number = taken.local_addr().expect("an address").port();
        drop(taken);
        let port = Port {
            number,
            variable: "AUTH_PORT",
        };
        assert!(port.must_be_free().is_ok());
    }

    #[test]
    fn the_files_of_both_services_are_arguments_and_nothing_else_is() {
        let read = |words: &[&str]| files_of(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(read(&[]).ok(), Some((None, None)));
        let files = read(&["--realtime-config", "r.toml", "--auth-config", "a.toml"]);
        let expected = (Some("a.toml".to_owned()), Some("r.toml".to_owned()));
        assert_eq!(files.ok(), Some(expected));
        for bad in [&["--config", "a.toml"][..], &["--auth-config"]] {
            let error = read(bad).expect_err("refused").to_string();
            assert!(error.contains("--auth-config FILE"), "{error}");
        }
    }

    #[test]
    fn the_builds_own_settings_stay() {
        assert!(is_about_own_package(OsStr::new("CARGO_PKG_NAME")));
        assert!(is_about_own_package(OsStr::new("CARGO_MANIFEST_DIR")));
        assert!(!is_about_own_package(OsStr::new("CARGO_TARGET_DIR")));
        assert!(!is_about_own_package(OsStr::new("CARGO_HOME")));
    }
}
