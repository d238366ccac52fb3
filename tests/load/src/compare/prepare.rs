//! Prepares a comparison: programs, npm packages, a secret and tokens.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use shared_claims::claims::{ACCESS_TOKEN_TYPE, LOGIN_CLIENT_ID, REALTIME_AUDIENCE};
use shared_claims::revocation::{LOGOUT_EVENT, LOGOUT_LIFETIME_SECS, LOGOUT_TOKEN_TYPE};
use shared_claims::secret::{SECRET_FILE_VARIABLE, Secrets};
use tempfile::TempDir;

use crate::back_end;
use crate::compare::servers::{Programs, issuer_command};

/// Name of the account that logs in, and subject of the token that most clients share.
pub(crate) const ACCOUNT: &str = "load";
/// Name of the event that a back end answers.
pub(crate) const CALLED_EVENT: &str = "load:call";
/// Name of the event that a gateway stores for a back end, with the settings of [`Home::storing_file`].
pub(crate) const STORED_EVENT: &str = "load:store";
/// The gateway's default issuer.
const ISSUER: &str = "http://localhost:8080";
/// Name of the file with the gateway's settings.
const GATEWAY_FILE: &str = "gateway.toml";
/// Name of the file with the settings of a gateway that stores events.
const STORING_FILE: &str = "storing.toml";
/// Name of the file with the secret that signs requests to back ends.
const SIGNING_FILE: &str = "back-end.secret";
/// Lifetime of the tokens, longer than any comparison takes, in seconds.
const LIFETIME_SECS: u64 = 12 * 3600;

/// Returns the root of the repository.
///
/// # Errors
///
/// Returns an error if the program was not started by cargo.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").context("run it as `cargo load compare`")?;
    let root = Path::new(&package).ancestors().nth(2);
    Ok(root.context("the repository was not found")?.to_owned())
}

/// Builds our programs with `cargo build --release`, and installs the peers with `npm ci`.
///
/// # Errors
///
/// Returns an error if a build or the installation fails.
pub(crate) fn programs(root: &Path, baseline: Option<&Path>) -> anyhow::Result<Programs> {
    let messages = cargo_build(root)?;
    let peers = root.join("tests/load/peers");
    install_peers(&peers)?;
    let bun = Some(peers.join("node_modules/.bin/bun")).filter(|path| runs(path));
    let baseline = baseline.map(fs::canonicalize).transpose();
    Ok(Programs {
        gateway: executable(&messages, "realtime-service")?,
        issuer: executable(&messages, "auth-service")?,
        bare: executable(&messages, "bare-socketioxide")?,
        limit: executable(&messages, "limit")?,
        back_end: executable(&messages, "back-end")?,
        peers,
        bun,
        baseline: baseline.context("the program of --baseline cannot be found")?,
    })
}

fn runs(program: &Path) -> bool {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    output.is_ok_and(|output| output.status.success())
}

fn cargo_build(root: &Path) -> anyhow::Result<String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--release",
            "--package",
            "auth-service",
            "--package",
            "realtime-service",
        ])
        .args([
            "--package",
            "load",
            "--bins",
            "--message-format=json-render-diagnostics",
        ])
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    // A cargo with these variables would build some crates anew.
    for (name, _) in std::env::vars_os() {
        let is_own = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if is_own {
            cargo.env_remove(name);
        }
    }
    let output = cargo.output().context("cargo cannot be started")?;
    ensure!(
        output.status.success(),
        "the build failed; cargo's messages above say why"
    );
    String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")
}

/// Finds the program `name` among cargo's messages, one JSON object a line.
fn executable(messages: &str, name: &str) -> anyhow::Result<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .with_context(|| format!("cargo built no program {name}"))
}

/// Installs the packages of the lock file, unless this version of it is installed.
fn install_peers(peers: &Path) -> anyhow::Result<()> {
    let lock = fs::read(peers.join("package-lock.json")).context("the peers have no lock file")?;
    let mark = peers.join("node_modules/.latchkey-lock.json");
    if fs::read(&mark).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    eprintln!("cargo load: installing the peers; better-sqlite3 may be compiled, for minutes");
    let status = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(peers)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("npm cannot be started: install Node and npm")?;
    ensure!(
        status.success(),
        "`npm ci` failed in tests/load/peers; its messages above say why"
    );
    fs::write(mark, lock).context("the installation of the peers cannot be marked")
}

/// Temporary folder with the secret, and one folder for the state of each started server.
pub(crate) struct Home {
    folder: TempDir,
    next_state: AtomicU32,
    /// Text of the secret that all servers share.
    pub(crate) secret: String,
    /// Password of the account.
    pub(crate) password: String,
    /// URL of the back end that answers [`CALLED_EVENT`].
    pub(crate) back_end: String,
    key: EncodingKey,
    key_id: String,
}

impl Home {
    /// Creates the folder, the secret by `auth-service secret init`, and the settings of the gateway. Starts the
    /// back end.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be created or the back end cannot listen.
    pub(crate) fn new(issuer: &Path) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("latchkey-load-").context("no temporary folder")?;
        let file = folder.path().join("secret");
        let mut command = Command::new(issuer);
        command
            .args(["secret", "init"])
            .arg(&file)
            .env_clear()
            .current_dir(folder.path());
        complete(&mut command, "")?;
        let secret = fs::read_to_string(file)
            .context("the secret cannot be read")?
            .trim()
            .to_owned();
        let secrets = Secrets::parse(SECRET_FILE_VARIABLE, &secret, '\n')?;
        let back_end = format!("http://{}/", back_end::start()?);
        let signing = folder.path().join(SIGNING_FILE);
        // Hexadecimal digits are digits of base64 too.
        fs::write(&signing, format!("whsec_{}", random_hex()?))?;
        // Lists, or deliveries would stay behind.
        for (file, event, mode, batch) in [
            (GATEWAY_FILE, CALLED_EVENT, "call", 1),
            (STORING_FILE, STORED_EVENT, "notify", 100),
        ] {
            let settings = format!(
                "[[backends]]\nname = 'load'\nurl = '{back_end}'\nsecret_file = '{}'\nbatch = {batch}\n\
                 [[events]]\nevents = ['{event}']\nbackend = 'load'\nmode = '{mode}'\n",
                signing.display()
            );
            fs::write(folder.path().join(file), settings)?;
        }
        Ok(Self {
            back_end,
            folder,
            next_state: AtomicU32::new(0),
            password: random_hex()?,
            key: EncodingKey::from_secret(secrets.signing().expose()),
            key_id: secrets
                .signing()
                .key_id()
                .context("the secret has no key id")?,
            secret,
        })
    }

    /// Returns the path of the secret.
    pub(crate) fn secret_file(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// Returns the path of the gateway's settings.
    pub(crate) fn gateway_file(&self) -> PathBuf {
        self.folder.path().join(GATEWAY_FILE)
    }

    /// Returns the path of the settings of a gateway that stores [`STORED_EVENT`] for the back end.
    pub(crate) fn storing_file(&self) -> PathBuf {
        self.folder.path().join(STORING_FILE)
    }

    /// Returns the path of the secret that signs requests to back ends.
    pub(crate) fn signing_file(&self) -> PathBuf {
        self.folder.path().join(SIGNING_FILE)
    }

    /// Creates an empty folder for the state of one server.
    ///
    /// # Errors
    ///
    /// Returns an error if the file system refuses it.
    pub(crate) fn new_state(&self) -> anyhow::Result<PathBuf> {
        let number = self.next_state.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("state-{number}"));
        fs::create_dir(&path).context("no folder for a server's state can be created")?;
        Ok(path)
    }

    /// Adds the account to the issuer's database in `state`.
    ///
    /// # Errors
    ///
    /// Returns an error with the issuer's words if it refuses.
    pub(crate) fn add_account(&self, issuer: &Path, state: &Path) -> anyhow::Result<()> {
        let mut command = issuer_command(issuer, self, state);
        let made = command.arg("migrate").stdout(Stdio::null()).status()?;
        ensure!(made.success(), "auth-service makes no database");
        let mut command = issuer_command(issuer, self, state);
        command.args(["user", "add", ACCOUNT, "--password-stdin"]);
        complete(&mut command, &self.password)
    }

    /// Signs a token of `subject`.
    ///
    /// # Errors
    ///
    /// Returns an error if the cryptographic library fails.
    pub(crate) fn token(&self, subject: &str) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iss": ISSUER, "sub": subject, "aud": REALTIME_AUDIENCE, "iat": now,
            "exp": now + LIFETIME_SECS, "jti": format!("jti-{subject}"),
            "sid": format!("sid-{subject}"), "client_id": LOGIN_CLIENT_ID, "name": subject,
        });
        self.sign(ACCESS_TOKEN_TYPE, &claims)
    }

    /// Returns the logout token of the session of `subject`.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be signed.
    pub(crate) fn logout_token(&self, subject: &str) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iss": ISSUER, "aud": REALTIME_AUDIENCE, "iat": now,
            "exp": now + LOGOUT_LIFETIME_SECS, "jti": format!("logout-{subject}"),
            "sid": format!("sid-{subject}"), "events": { (LOGOUT_EVENT): {} },
        });
        self.sign(LOGOUT_TOKEN_TYPE, &claims)
    }

    fn sign(&self, kind: &str, claims: &Value) -> anyhow::Result<String> {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(kind.to_owned());
        header.kid = Some(self.key_id.clone());
        Ok(jsonwebtoken::encode(&header, claims, &self.key)?)
    }
}

/// Returns 32 random hexadecimal digits.
fn random_hex() -> anyhow::Result<String> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).context("the system provides no random numbers")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs a command with `input` to its end.
fn complete(command: &mut Command, input: &str) -> anyhow::Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("auth-service cannot be started")?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "{input}").context("auth-service does not read its input")?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "auth-service: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_libraries_of_the_same_name() {
        let messages = r#"
            {"target":{"name":"limit"},"executable":null}
            {"target":{"name":"limit"},"executable":"/t/limit"}
            {"reason":"build-finished","success":true}
        "#;
        assert_eq!(
            executable(messages, "limit").expect("it is there"),
            PathBuf::from("/t/limit")
        );
        assert!(executable(messages, "load").is_err());
    }
}
