//! An OpenID Connect provider that we did not write: `oidc-provider` from npm, and browsers that
//! sign in to it. See `tests/clients/oidc-provider.mjs`.

use reqwest::{Client, redirect::Policy};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::{soon, stock::node_program};

/// The `aud` of the access tokens that are for the gateway.
pub const AUDIENCE: &str = "https://realtime.example";

/// The client whose users have sockets.
pub const APP: &str = "app";

const CALLBACK: &str = "https://app.example/callback";

/// A verifier and its challenge (RFC 7636, appendix B).
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// The provider as a child process, which ends with this.
pub struct OidcProvider {
    /// Its issuer, which is also where it is.
    pub issuer: String,
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl OidcProvider {
    /// Starts the provider.
    ///
    /// # Panics
    ///
    /// When Node or the packages are missing.
    pub async fn start() -> Self {
        let mut child = node_program("oidc-provider.mjs", &[]);
        let stdout = child.stdout.take().expect("a piped stdout");
        let mut this = Self {
            issuer: String::new(),
            commands: child.stdin.take().expect("a piped stdin"),
            answers: BufReader::new(stdout).lines(),
            child,
        };
        let started = this.answer().await;
        this.issuer = started["issuer"].as_str().expect("an issuer").to_owned();
        this
    }

    /// Lets it tell the gateway at this address of logouts.
    pub async fn tell(&mut self, gateway_url: &str) {
        self.command(json!({ "gateway": gateway_url })).await;
    }

    /// Lets it sign with new keys, and publish these alone.
    pub async fn rotate(&mut self) {
        self.command(json!({ "rotate": true })).await;
    }

    /// Ends it, and waits until it has gone.
    pub async fn stop(&mut self) {
        let killed = soon("the provider's end", self.child.kill()).await;
        killed.expect("a provider that was still there");
    }

    async fn command(&mut self, command: Value) {
        let line = format!("{command}\n");
        let sent = self.commands.write_all(line.as_bytes());
        soon("a command", sent).await.expect("a provider");
        assert_eq!(self.answer().await["done"], command);
    }

    async fn answer(&mut self) -> Value {
        let line = soon("a line of the provider", self.answers.next_line()).await;
        let line = line.expect("text").expect("a provider that runs");
        serde_json::from_str(&line).expect("JSON")
    }

    /// What the settings of a gateway say of it: its keys are where its metadata says.
    #[must_use]
    pub fn settings(&self) -> Value {
        json!({ "issuer": self.issuer, "audience": AUDIENCE, "client_id": APP })
    }

    /// An access token of a back end, without a person (RFC 6749, section 4.4).
    pub async fn token_of_a_back_end(&self, resource: &str) -> String {
        let form = [("grant_type", "client_credentials"), ("resource", resource)];
        let request = Client::new()
            .post(format!("{}/token", self.issuer))
            .basic_auth("job", Some("of no consequence"))
            .form(&form);
        let answer = soon("a token", request.send()).await.expect("an answer");
        let answer: Value = soon("a token", answer.json()).await.expect("JSON");
        text(&answer, "access_token")
    }
}

/// A browser with the cookies of one person.
pub struct Browser {
    issuer: String,
    person: &'static str,
    client: Client,
}

/// What a browser gets from a sign-in.
pub struct Tokens {
    /// For the resource that was asked for.
    pub access: String,
    /// For the app, to know who signed in.
    pub id: String,
}

impl Browser {
    /// A browser in which `person` is about to sign in.
    #[must_use]
    pub fn of(provider: &OidcProvider, person: &'static str) -> Self {
        let to_the_app = Policy::custom(|attempt| match attempt.url().as_str() {
            url if url.starts_with(CALLBACK) => attempt.stop(),
            _ => attempt.follow(),
        });
        let client = Client::builder().cookie_store(true).redirect(to_the_app);
        Self {
            issuer: provider.issuer.clone(),
            person,
            client: client.build().expect("an HTTP client"),
        }
    }

    /// Signs in with a code and PKCE, and asks for a token for `resource`: the audience, and as its
    /// path an algorithm, and `/sid` when the token shall name the session.
    pub async fn sign_in(&self, resource: &str) -> Tokens {
        let query = [
            ("client_id", APP),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid rooms"),
            ("resource", resource),
            ("login_hint", self.person),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        let url = reqwest::Url::parse_with_params(&format!("{}/auth", self.issuer), query);
        let request = self.client.get(url.expect("a URL"));
        let answer = soon("a sign-in", request.send()).await.expect("an answer");
        let back = answer.headers().get("location");
        let back = back.and_then(|location| location.to_str().ok());
        let back = reqwest::Url::parse(back.expect("a redirect")).expect("a URL");
        let code = back.query_pairs().find(|(name, _)| name == "code");
        let (_, code) = code.expect("a code");
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", CALLBACK),
            ("client_id", APP),
            ("code_verifier", VERIFIER),
            ("resource", resource),
        ];
        let request = self.client.post(format!("{}/token", self.issuer));
        let answer = soon("tokens", request.form(&form).send()).await;
        let answer = answer.expect("an answer").json();
        let answer: Value = soon("tokens", answer).await.expect("JSON");
        Tokens {
            access: text(&answer, "access_token"),
            id: text(&answer, "id_token"),
        }
    }

    /// Signs out at the provider, which tells the apps before it answers (OpenID Connect RP-Initiated
    /// Logout 1.0).
    pub async fn sign_out(&self) {
        let url = format!("{}/session/end", self.issuer);
        let page = soon("a page", self.client.get(&url).send()).await;
        let page = soon("a page", page.expect("an answer").text()).await;
        let page = page.expect("a text");
        let after = page.split(r#"name="xsrf" value=""#).nth(1);
        let (secret, _) = after.and_then(|rest| rest.split_once('"')).expect("a form");
        let form = [("xsrf", secret), ("logout", "yes")];
        let confirmed = self
            .client
            .post(format!("{url}/confirm"))
            .form(&form)
            .send();
        let confirmed = soon("a sign-out", confirmed).await.expect("an answer");
        assert!(confirmed.status().is_success(), "{}", confirmed.status());
    }
}

fn text(answer: &Value, name: &str) -> String {
    let text = answer[name].as_str();
    text.unwrap_or_else(|| panic!("no {name}: {answer}"))
        .to_owned()
}
