//! A service of the operator's that is sent signed messages: of mail, events or claims.

use std::{net::TcpListener, path::PathBuf};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::Value;
use tempfile::TempDir;

/// A service on a port of its own, and the file with the secret that signs for it.
pub(crate) struct Receiver {
    origin: String,
    secrets: TempDir,
}

impl Receiver {
    /// Starts a service that answers each message by `answer`. A request that is redirected to
    /// [`Self::elsewhere`] is answered the text `of_elsewhere`.
    pub(crate) fn start<F, A>(of_elsewhere: &'static str, answer: F) -> Self
    where
        F: Fn(HttpRequest, Value) -> A + Clone + Send + 'static,
        A: Future<Output = HttpResponse> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let factory = move || {
            let answer = answer.clone();
            let take = move |request: HttpRequest, web::Json(message): web::Json<Value>| {
                for header in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
                    assert!(request.headers().contains_key(header), "{header}");
                }
                answer(request, message)
            };
            let elsewhere = move || async move { HttpResponse::Ok().body(of_elsewhere) };
            App::new()
                .route("/hook", web::post().to(take))
                .route("/elsewhere", web::to(elsewhere))
        };
        let server = HttpServer::new(factory).workers(1).listen(listener);
        tokio::spawn(server.expect("a server").run());
        let secrets = tempfile::tempdir().expect("a directory");
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
        std::fs::write(secrets.path().join("secret"), secret).expect("a file");
        Self { origin, secrets }
    }

    /// The URL for messages.
    pub(crate) fn url(&self) -> String {
        format!("{}/hook", self.origin)
    }

    /// The file with the secret.
    pub(crate) fn secret_file(&self) -> PathBuf {
        self.secrets.path().join("secret")
    }

    /// An answer that leads to another path of the service.
    pub(crate) fn elsewhere(status: u16) -> HttpResponse {
        HttpResponse::build(status_of(status))
            .insert_header(("location", "/elsewhere"))
            .finish()
    }
}

/// The status of a number.
pub(crate) fn status_of(status: u16) -> actix_web::http::StatusCode {
    actix_web::http::StatusCode::from_u16(status).expect("a status")
}
