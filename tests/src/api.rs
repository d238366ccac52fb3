//! The gateway's HTTP API for back ends, as a back end sees it.

use auth_service::{
    clients,
    users::grants::{Subject, add_grant, parse_actions},
};
use reqwest::{Client, Method, StatusCode, header};
use serde_json::Value;
use shared_claims::claims::API_AUDIENCE;

use crate::{Forge, Opening, Options, Stack, WebSocket, eventually, free_address, soon};

/// What a back end may have, all of it.
pub const ALL_SCOPES: &str = "rt.publish rt.read rt.kick rt.webhooks";

/// A stack whose gateway listens for back ends.
pub struct WithApi {
    /// The stack.
    pub stack: Stack,
    /// Where it listens for them.
    pub url: String,
    http: Client,
}

/// What was answered.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: header::HeaderMap,
    /// The body, which is always JSON.
    pub body: Value,
}

impl Answer {
    /// The code of a problem document.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn code(&self) -> &str {
        let kind = &self.headers[header::CONTENT_TYPE];
        assert_eq!(kind, "application/problem+json", "{}", self.body);
        assert_eq!(self.body["status"], self.status.as_u16());
        self.body["code"].as_str().expect("a code")
    }

    /// What a request is answered that was carried out.
    ///
    /// # Panics
    ///
    /// When it was not.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }
}

impl WithApi {
    /// Starts a stack as it is by default, and besides for back ends.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// Starts a stack with `options`, and besides for back ends.
    pub async fn start_with(options: Options) -> Self {
        let address = free_address();
        let stack = Stack::start_with(options.gateway("api.listen", address.as_str())).await;
        Self::around(stack, &address).await
    }

    /// A stack that was started to listen for back ends at `address`.
    pub async fn around(stack: Stack, address: &str) -> Self {
        let url = format!("{}://{address}", stack.root.scheme());
        let http = stack.root.http(None);
        eventually("the listener for back ends", || async {
            http.get(&url).send().await.is_ok()
        })
        .await;
        Self { stack, url, http }
    }

    /// A back end's token in the making.
    #[must_use]
    pub fn back_end(&self, scope: &str) -> Forge {
        self.stack
            .forge()
            .claim("aud", API_AUDIENCE)
            .claim("sub", "client:worker")
            .claim("client_id", "worker")
            .claim("scope", scope)
    }

    /// Sends a request with a token.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        self.call_with(method, path, &[("authorization", &bearer)], body)
            .await
    }

    /// Sends a request with these headers.
    ///
    /// # Panics
    ///
    /// When there is no answer, or one that is no JSON.
    pub async fn call_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        Answer {
            status: answer.status(),
            headers: answer.headers().clone(),
            body: answer.json().await.expect("JSON"),
        }
    }

    /// Posts as a back end that may do everything.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        let token = self.back_end(ALL_SCOPES).token();
        self.call(Method::POST, path, &token, Some(body)).await
    }

    /// Reads as a back end that may do everything.
    pub async fn get(&self, path: &str) -> Answer {
        let token = self.back_end(ALL_SCOPES).token();
        self.call(Method::GET, path, &token, None).await
    }

    /// A connection of a user.
    pub async fn user(&self, sub: &str) -> WebSocket {
        let token = self.stack.forge().claim("sub", sub).token();
        Opening::of(&self.stack).admitted(&token).await
    }
}

/// The clients of the auth-service, as its operator manages them.
impl Stack {
    /// Makes a client, and gives its secret.
    ///
    /// # Panics
    ///
    /// When it is not made.
    pub async fn add_client(&self, id: &str, scopes: &str) -> String {
        if let Some(settings) = self.auth_settings() {
            let added = clients::add_client(&settings, id, scopes).await;
            return added.expect("a client").to_string();
        }
        let printed = self.manage(&["add", id, "--scope", scopes]).await;
        // What it logs has several words.
        let secret = printed.lines().find(|line| !line.contains(' '));
        secret.expect("a secret").to_owned()
    }

    /// Removes a client.
    ///
    /// # Panics
    ///
    /// When it is not removed.
    pub async fn remove_client(&self, id: &str) {
        match self.auth_settings() {
            Some(settings) => {
                let removed = clients::remove_client(&settings, id).await;
                removed.expect("a client that was there");
            }
            None => drop(self.manage(&["remove", id]).await),
        }
    }

    /// Lets a client do `actions`, a list with commas, in the rooms of a pattern and in no others.
    ///
    /// # Panics
    ///
    /// When that is not granted.
    pub async fn grant_client(&self, id: &str, room: &str, actions: &str) {
        match self.auth_settings() {
            Some(settings) => {
                let actions = parse_actions(actions).expect("actions");
                let client = Subject::Client(id.to_owned());
                let granted = add_grant(&settings, &client, room, &actions).await;
                granted.expect("a grant");
            }
            None => {
                let arguments = ["grant", id, "--room", room, "--actions", actions];
                drop(self.manage(&arguments).await);
            }
        }
    }

    /// Runs a command about clients, and gives what it printed.
    async fn manage(&self, arguments: &[&str]) -> String {
        let ended = self.run_auth(&[&["client"], arguments].concat()).await;
        assert!(ended.status.success(), "{}", ended.output);
        ended.output
    }

    /// Asks for a client's token with its secret.
    ///
    /// # Errors
    ///
    /// The `error` that is answered instead.
    ///
    /// # Panics
    ///
    /// When neither is answered.
    pub async fn client_token(&self, id: &str, secret: &str) -> Result<String, String> {
        let url = format!("{}/oauth/token", self.issuer_url);
        let request = self.http().post(url).basic_auth(id, Some(secret));
        let request = request.form(&[("grant_type", "client_credentials")]);
        let answer = soon("an answer", request.send()).await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        text("access_token").ok_or_else(|| text("error").expect("a token or an error"))
    }
}
