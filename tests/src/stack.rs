//! Both services, their database, their secret, and two people with accounts.

mod gateway;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use auth_service::{
    credentials::Username,
    store::Store,
    users::{self, NewUser},
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use shared_claims::secret::{SECRET_FILE_VARIABLE, SECRET_VARIABLE, Secrets};
use tempfile::TempDir;

pub use crate::binary::{Ended, UnreadLines, run};
use crate::{
    Forge,
    options::{Mode, Options, apply, variables},
    random_text,
    service::{Service, address, listener},
    soon,
    tls::Root,
};

/// Who has an account in every stack.
const PEOPLE: [&str; 2] = ["alice", "bob"];

/// Two services that trust each other, with nothing in their database but alice and bob.
pub struct Stack {
    /// Where the auth-service is: its public URL, and the `iss` of its tokens.
    pub issuer_url: String,
    /// Where the gateway is, as its page and its clients have it.
    pub gateway_url: String,
    /// The same, for those who open connections by themselves.
    pub gateway_address: SocketAddr,
    /// The secret that both services share.
    pub secret: String,
    /// What its clients know of the gateway's certificate.
    pub root: Root,
    passwords: Passwords,
    http: reqwest::Client,
    pub(crate) auth: Service,
    pub(crate) gateway: Service,
    pub(crate) plan: Plan,
    /// What the services are told when they are processes.
    pub(crate) variables: Variables,
}

/// The environment of the two services.
#[derive(Default)]
pub(crate) struct Variables {
    auth: Vec<(String, String)>,
    pub(crate) gateway: Vec<(String, String)>,
}

/// The passwords of the people with accounts. Stacks that share them can stand in for each other.
#[derive(Clone)]
pub struct Passwords(Vec<(&'static str, String)>);

impl Default for Passwords {
    fn default() -> Self {
        Self(
            PEOPLE
                .map(|name| (name, format!("correct-{}", random_text(18))))
                .to_vec(),
        )
    }
}

impl Passwords {
    /// The password of `name`.
    ///
    /// # Panics
    ///
    /// When `name` has no account.
    #[must_use]
    pub fn of(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(person, _)| *person == name);
        &found.expect("somebody with an account").1
    }
}

/// Where the two services of a stack will be, and what they need to know.
pub(crate) struct Plan {
    pub(crate) options: Options,
    secret: String,
    pub(crate) directory: TempDir,
    auth: SocketAddr,
    gateway: SocketAddr,
}

impl Stack {
    /// Starts a stack as it is by default.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// Starts a stack with `options`.
    pub async fn start_with(options: Options) -> Self {
        Self::start_for(options, Passwords::default()).await
    }

    /// Starts a stack in which people have `passwords`.
    pub async fn start_for(options: Options, passwords: Passwords) -> Self {
        let listeners = (listener(), listener());
        let plan = Plan {
            options,
            secret: random_text(36),
            directory: tempfile::tempdir().expect("a temporary directory"),
            auth: address(&listeners.0),
            gateway: address(&listeners.1),
        };
        let (auth, gateway, variables) = match plan.options.mode {
            Mode::InProcess => {
                let auth = plan.start_auth_in_process(listeners.0, &passwords).await;
                let gateway = plan.start_gateway_in_process(listeners.1, plan.revocations());
                (auth, gateway, Variables::default())
            }
            Mode::Binaries => {
                drop(listeners);
                plan.start_binaries(&passwords).await
            }
        };
        Self {
            issuer_url: plan.issuer(),
            gateway_url: format!("{}://{}", plan.options.root.scheme(), plan.gateway),
            gateway_address: plan.gateway,
            secret: plan.secret.clone(),
            root: plan.options.root.clone(),
            passwords,
            http: reqwest::Client::new(),
            auth,
            gateway,
            plan,
            variables,
        }
    }

    /// The passwords of the people with accounts.
    #[must_use]
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// A client for HTTP.
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Logs `name` in with JSON, and gives the token.
    ///
    /// # Panics
    ///
    /// When the answer is not a token.
    pub async fn login(&self, name: &str) -> String {
        let body = json!({"username": name, "password": self.passwords.of(name)});
        let request = self
            .http
            .post(format!("{}/login", self.issuer_url))
            .json(&body);
        let answer = soon("a login", request.send()).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = soon("a token", answer.json()).await.expect("JSON");
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// A token that the gateway would accept, to be changed.
    #[must_use]
    pub fn forge(&self) -> Forge {
        Forge::new(&self.issuer_url, &self.secret)
    }

    /// What the binaries have written so far: auth-service, gateway.
    #[must_use]
    pub fn output(&self) -> (String, String) {
        (self.auth.output(), self.gateway.output())
    }

    /// Writes other secrets, one a line, and lets both services read them.
    ///
    /// # Panics
    ///
    /// When the services are no processes of their own.
    pub async fn replace_secrets(&self, secrets: &str) {
        self.write_and_reload(secrets, "the secrets were read again")
            .await;
    }

    /// Writes secrets that are none, which both services leave alone.
    ///
    /// # Panics
    ///
    /// When the services are no processes of their own.
    pub async fn replace_broken_secrets(&self, secrets: &str) {
        self.write_and_reload(secrets, "the secrets are left as they were")
            .await;
    }

    async fn write_and_reload(&self, secrets: &str, done: &'static str) {
        write_secrets(self.plan.directory.path(), secrets);
        tokio::join!(self.auth.reload(done), self.gateway.reload(done));
    }

    /// Runs a command of the auth-service beside the one that serves.
    pub async fn run_auth(&self, arguments: &[&str]) -> Ended {
        run("auth-service", arguments, &self.variables.auth, None).await
    }

    /// Gives an account these roles and no others, when the auth-service runs in this process.
    ///
    /// # Panics
    ///
    /// When there is no such account, or a role cannot be one.
    pub async fn set_roles(&self, name: &str, roles: &[&str]) {
        let settings = self.auth_settings().expect("an issuer in this process");
        let name = Username::parse(name).expect("a name");
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let set = users::administer(&settings, async |users| {
            let account = users.find_by_name(&name).await?;
            users.set_claims(&account.id, Some(roles), None).await
        });
        set.await.expect("roles");
    }

    /// What the auth-service's commands have to know, when it runs in this process.
    pub(crate) fn auth_settings(&self) -> Option<auth_service::config::Settings> {
        let in_process = self.plan.options.mode == Mode::InProcess;
        in_process.then(|| self.plan.auth_config().settings)
    }

    /// Stops both services, and gives how they ended when they are processes: auth-service, gateway.
    pub async fn stop(self) -> Option<(Ended, Ended)> {
        let (auth, gateway) = tokio::join!(self.auth.stop(), self.gateway.stop());
        auth.zip(gateway)
    }
}

impl Plan {
    fn issuer(&self) -> String {
        format!("http://{}", self.auth)
    }

    fn gateway_origin(&self) -> String {
        format!("http://{}", self.gateway)
    }

    /// What no service may ever write.
    pub(crate) fn unspeakable(&self, passwords: &Passwords) -> Vec<String> {
        let passwords = passwords.0.iter().map(|(_, password)| password.clone());
        passwords.chain([self.secret.clone()]).collect()
    }

    /// The gateway's page, by both names of this machine.
    fn origins(&self) -> [String; 2] {
        ["127.0.0.1", "localhost"].map(|host| format!("http://{host}:{}", self.gateway.port()))
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("auth.db")
    }

    pub(crate) fn revocations(&self) -> PathBuf {
        self.directory.path().join("revocations.jsonl")
    }

    fn secrets(&self) -> Secrets {
        Secrets::parse(SECRET_VARIABLE, &self.secret, ',').expect("a good secret")
    }

    fn auth_config(&self) -> auth_service::Config {
        auth_service::Config::for_testing(&self.database(), self.secrets())
    }

    async fn start_auth_in_process(
        &self,
        listener: std::net::TcpListener,
        passwords: &Passwords,
    ) -> Service {
        let mut config = self.auth_config();
        config.settings.public_url = self.issuer();
        config.settings.origins = self.origins().to_vec();
        config.settings.app_url = self.gateway_origin();
        config.settings.revocation.gateways = vec![self.gateway_origin()];
        let settings = serde_json::to_value(&config.settings).expect("settings as JSON");
        config.settings = serde_json::from_value(apply(settings, &self.options.auth))
            .expect("settings of the auth-service");
        let made = soon("a database", Store::open(&config.settings.database_url));
        made.await.expect("a database").close().await;
        for (name, password) in &passwords.0 {
            let user = NewUser::parse(name, password).expect("a user");
            let added = users::add_user(&config.settings, user);
            soon("an account", added).await.expect("an account");
        }
        Service::in_process(|stopped| {
            auth_service::serve(config, listener, async {
                let _ = stopped.await;
            })
        })
    }

    async fn start_binaries(&self, passwords: &Passwords) -> (Service, Service, Variables) {
        let file = write_secrets(self.directory.path(), &self.secret);
        let file = file.to_str().expect("a path in UTF-8").to_owned();
        let secret = (SECRET_FILE_VARIABLE.to_owned(), file);
        let mut common = Vec::new();
        // As verbose as can be: whatever a test does, the output must hold no secret.
        let log = self.options.log.unwrap_or("trace");
        common.push(("RUST_LOG".to_owned(), log.to_owned()));
        common.extend(self.options.environment.iter().cloned());
        let origins = json!(self.origins());
        let database = format!("sqlite://{}", self.database().display());
        let auth = [
            ("listen", json!(self.auth.to_string())),
            ("public_url", json!(self.issuer())),
            ("database_url", json!(database)),
            ("origins", origins.clone()),
            ("app_url", json!(self.gateway_origin())),
            ("revocation.gateways", json!([self.gateway_origin()])),
        ];
        let mut auth = variables("AUTH", &auth);
        auth.extend(variables("AUTH", &self.options.auth));
        auth.extend(common.clone());
        auth.push(secret.clone());
        let made = run("auth-service", &["migrate"], &auth, None).await;
        assert!(made.status.success(), "{}", made.output);
        for (name, password) in &passwords.0 {
            let arguments = ["user", "add", name, "--password-stdin"];
            let added = run("auth-service", &arguments, &auth, Some(password)).await;
            assert!(added.status.success(), "{}", added.output);
        }
        let gateway = [
            ("listen", json!(self.gateway.to_string())),
            ("issuer", json!(self.issuer())),
            ("origins", origins),
            ("revocations.file", json!(self.revocations())),
            ("webhooks.file", json!(self.webhooks())),
        ];
        let mut gateway = variables("REALTIME", &gateway);
        gateway.extend(variables("REALTIME", &self.options.gateway));
        gateway.extend(common);
        let asymmetric = ("keys.mode", json!("asymmetric"));
        if !self.options.gateway.contains(&asymmetric) {
            gateway.push(secret);
        }
        let secrets = || self.unspeakable(passwords);
        (
            Service::binary("auth-service", &[], &auth, secrets()).await,
            self.start_gateway_binary(&gateway, secrets()).await,
            Variables { auth, gateway },
        )
    }
}

/// Writes the file with the secrets whole or not at all, as an operator should.
fn write_secrets(directory: &Path, secrets: &str) -> PathBuf {
    let (path, draft) = (directory.join("secret"), directory.join("secret.draft"));
    std::fs::write(&draft, secrets).expect("a written file");
    std::fs::rename(&draft, &path).expect("a renamed file");
    path
}
