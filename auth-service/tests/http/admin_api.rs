//! The operator's API for accounts.

use auth_service::clients;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    admin::with_admin,
    fixture::{Service, problem},
    oauth::{CLIENT_CREDENTIALS, basic, granted, post},
};

/// A service with an operator's listener, and the tokens of a client with each scope.
pub(crate) struct Operated {
    pub(crate) service: Service,
    pub(crate) admin: String,
    pub(crate) read: String,
    pub(crate) write: String,
}

impl Operated {
    pub(crate) async fn start() -> Self {
        let (service, admin) = with_admin().await;
        Self::of(service, admin).await
    }

    pub(crate) async fn of(service: Service, admin: String) -> Self {
        let read = token(&service, "reader", "users.read").await;
        let write = token(&service, "manager", "users.write").await;
        Self {
            service,
            admin,
            read,
            write,
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.admin);
        self.service.client.request(method, url)
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        let request = self.request(Method::GET, path).bearer_auth(&self.read);
        request.send().await.expect("an answer")
    }

    /// The answer to a read, as JSON.
    pub(crate) async fn read(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json().await.expect("JSON")
    }

    pub(crate) async fn change(&self, method: Method, path: &str, body: &Value) -> Response {
        let request = self.request(method, path).bearer_auth(&self.write);
        request.json(body).send().await.expect("an answer")
    }

    pub(crate) async fn call(&self, method: Method, path: &str) -> Response {
        let request = self.request(method, path).bearer_auth(&self.write);
        request.send().await.expect("an answer")
    }
}

/// A token of a new client that has these scopes.
async fn token(service: &Service, id: &str, scopes: &str) -> String {
    let secret = clients::add_client(&service.config.settings, id, scopes).await;
    let header = basic(id, &secret.expect("a client"));
    let answer = post(service, "/oauth/token", Some(&header), &CLIENT_CREDENTIALS).await;
    let answer = granted(answer).await;
    answer["access_token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn without_the_scope_of_a_client_for_this_api_nothing_is_read_or_changed() {
    let operated = Operated::start().await;
    let id = operated.service.add_user("alice").await;
    let of_person = operated.service.token_of("alice").await;
    let of_gateway = token(&operated.service, "gateway", "rt.publish users.write").await;
    let paths = [
        (Method::GET, "/v1/users".to_owned()),
        (Method::POST, "/v1/users".to_owned()),
        (Method::POST, "/v1/users:import".to_owned()),
        (Method::GET, format!("/v1/users/{id}")),
        (Method::PATCH, format!("/v1/users/{id}")),
        (Method::DELETE, format!("/v1/users/{id}")),
        (Method::GET, format!("/v1/users/{id}/grants")),
        (Method::PUT, format!("/v1/users/{id}/grants")),
        (Method::POST, format!("/v1/users/{id}/disable")),
        (Method::POST, format!("/v1/users/{id}/enable")),
        (Method::DELETE, format!("/v1/users/{id}/sessions")),
        (Method::DELETE, format!("/v1/users/{id}/second-factor")),
    ];
    for (method, path) in paths {
        let send = async |token: Option<&str>| {
            let request = operated.request(method.clone(), &path).json(&json!({}));
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            request.send().await.expect("an answer")
        };
        let unauthorized = StatusCode::UNAUTHORIZED;
        problem(send(None).await, unauthorized, "credentials_required").await;
        for token in [&of_person, &of_gateway] {
            problem(send(Some(token)).await, unauthorized, "invalid_token").await;
        }
        if method != Method::GET {
            let refused = send(Some(&operated.read)).await;
            let challenge = refused.headers()["www-authenticate"].clone();
            assert_eq!(
                challenge,
                r#"Bearer error="insufficient_scope", scope="users.write""#
            );
            problem(refused, StatusCode::FORBIDDEN, "insufficient_scope").await;
        }
    }
    // The twin with the scope; who may write may read.
    for token in [&operated.read, &operated.write] {
        let request = operated
            .request(Method::GET, "/v1/users")
            .bearer_auth(token);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let settings = &operated.service.config.settings;
    clients::remove_client(settings, "reader")
        .await
        .expect("removed");
    let refused = operated.get("/v1/users").await;
    problem(refused, StatusCode::UNAUTHORIZED, "invalid_token").await;
}

#[tokio::test]
async fn a_token_is_for_this_api_or_for_the_gateways_and_never_for_both() {
    let operated = Operated::start().await;
    let service = &operated.service;
    let secret = clients::add_client(&service.config.settings, "both", "rt.read users.read").await;
    let header = basic("both", &secret.expect("a client"));
    let ask = async |more: &[(&str, &str)]| {
        let form = [&CLIENT_CREDENTIALS[..], more].concat();
        post(service, "/oauth/token", Some(&header), &form).await
    };
    for (more, scope) in [
        (&[][..], "rt.read"),
        (&[("scope", "rt.read")], "rt.read"),
        (&[("scope", "users.read")], "users.read"),
        (&[("audience", "latchkey-admin")], "users.read"),
        (&[("resource", "latchkey-api")], "rt.read"),
        (
            &[
                ("audience", "latchkey-admin"),
                ("resource", "latchkey-admin"),
            ],
            "users.read",
        ),
    ] {
        assert_eq!(granted(ask(more).await).await["scope"], scope, "{more:?}");
    }
    for (more, error) in [
        (&[("scope", "rt.read users.read")][..], "invalid_scope"),
        (&[("scope", "users.write")], "invalid_scope"),
        (
            &[("scope", "rt.read"), ("audience", "latchkey-admin")],
            "invalid_scope",
        ),
        (
            &[("scope", "users.read"), ("audience", "latchkey-api")],
            "invalid_scope",
        ),
        (&[("audience", "latchkey-realtime")], "invalid_target"),
        (
            &[("audience", "latchkey-admin"), ("resource", "latchkey-api")],
            "invalid_target",
        ),
    ] {
        let refused = ask(more).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{more:?}");
        let body: Value = refused.json().await.expect("JSON");
        assert_eq!(body["error"], error, "{more:?}");
    }
}

#[tokio::test]
async fn the_description_of_the_api_is_on_its_listener_alone() {
    let operated = Operated::start().await;
    let document = operated.request(Method::GET, "/openapi.json").send().await;
    let document: Value = document.expect("an answer").json().await.expect("JSON");
    assert!(document["paths"]["/v1/users"]["get"].is_object());
    let public = operated
        .service
        .client
        .get(operated.service.url("/v1/users"));
    let public = public
        .bearer_auth(&operated.write)
        .send()
        .await
        .expect("an answer");
    problem(public, StatusCode::NOT_FOUND, "not_found").await;
}
