//! Where things are: the repository, the three ports, the directory for development data.

use std::env;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

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
}

impl Settings {
    /// Reads the variables that `cargo run` sets, and the optional ones.
    ///
    /// # Errors
    ///
    /// When not started by cargo, or when a variable cannot be used.
    pub(crate) fn from_env() -> anyhow::Result<Self> {
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
        })
    }

    /// A command of auth-service, or the service itself, with the development data.
    pub(crate) fn auth_command(&self, binary: &Path) -> Command {
        let mut command = self.command(binary);
        command
            .env("AUTH__LISTEN", self.auth.listen())
            .env("AUTH__PUBLIC_URL", self.auth.url())
            .env("AUTH__ORIGINS", self.origins())
            .env("AUTH__REVOCATION__GATEWAYS", self.realtime.url())
            .env(
                "AUTH__DATABASE_URL",
                format!("sqlite://{}", self.database()),
            );
        command
    }

    /// The gateway, trusting the issuer above.
    pub(crate) fn realtime_command(&self, binary: &Path) -> Command {
        let mut command = self.command(binary);
        command
            .env("REALTIME__LISTEN", self.realtime.listen())
            .env("REALTIME__API__LISTEN", self.api.listen())
            .env("REALTIME__ISSUER", self.auth.url())
            .env("REALTIME__ORIGINS", self.origins())
            .env("REALTIME__REVOCATIONS__FILE", self.revocations());
        command
    }

    /// The file of the secret that both services share.
    pub(crate) fn secret(&self) -> String {
        format!("{}/secret", self.dir)
    }

    /// The file of what was logged out before its tokens ended.
    pub(crate) fn revocations(&self) -> String {
        format!("{}/revocations.jsonl", self.dir)
    }

    /// The file of the accounts.
    pub(crate) fn database(&self) -> String {
        format!("{}/latchkey.db", self.dir)
    }

    fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command
            .current_dir(&self.root)
            .env_remove("LATCHKEY_SECRET")
            .env("LATCHKEY_SECRET_FILE", self.secret());
        command
    }

    fn origins(&self) -> String {
        let port = self.realtime.number;
        format!("http://localhost:{port},http://127.0.0.1:{port}")
    }
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
    fn the_builds_own_settings_stay() {
        assert!(is_about_own_package(OsStr::new("CARGO_PKG_NAME")));
        assert!(is_about_own_package(OsStr::new("CARGO_MANIFEST_DIR")));
        assert!(!is_about_own_package(OsStr::new("CARGO_TARGET_DIR")));
        assert!(!is_about_own_package(OsStr::new("CARGO_HOME")));
    }
}
