//! TLS of the public listener.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use auth_service::{config::TlsSettings, tls::Certificate};
use reqwest::{Client, StatusCode, Version};

use crate::fixture::Service;

/// Writes a certificate for this machine and its key, and returns the certificate as PEM.
pub(crate) fn write_certificate(directory: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    let certificate = made.cert.pem();
    fs::write(directory.join("cert.pem"), &certificate).expect("written");
    fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    certificate
}

pub(crate) fn settings(directory: &Path) -> TlsSettings {
    TlsSettings {
        cert_file: directory.join("cert.pem"),
        key_file: directory.join("key.pem"),
    }
}

/// A client that knows this certificate and no other.
pub(crate) fn client_of(certificate: &str) -> Client {
    let certificate = reqwest::Certificate::from_pem(certificate.as_bytes()).expect("PEM");
    let builder = Client::builder().tls_certs_only([certificate]);
    builder.build().expect("a client")
}

#[tokio::test]
async fn whoever_knows_the_certificate_is_served_and_nobody_in_the_clear() {
    let directory = tempfile::tempdir().expect("a directory");
    let certificate = write_certificate(directory.path());
    let tls = settings(directory.path());
    let service = Service::start_with(|settings| settings.tls = tls).await;
    let url = format!("https://localhost:{}/health/live", service.address.port());
    let answer = client_of(&certificate)
        .get(&url)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.version(), Version::HTTP_11);
    let stranger = tempfile::tempdir().expect("a directory");
    let other = client_of(&write_certificate(stranger.path()));
    assert!(other.get(&url).send().await.is_err());
    assert!(
        service
            .client
            .get(service.url("/health/live"))
            .send()
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_ended() {
    let directory = tempfile::tempdir().expect("a directory");
    let certificate = write_certificate(directory.path());
    let tls = settings(directory.path());
    let service = Service::start_with(|settings| settings.tls = tls).await;
    let mut stream = TcpStream::connect(service.address).expect("a connection");
    stream.write_all(&[0x16, 0x03, 0x01]).expect("sent");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a deadline");
    let url = format!("https://localhost:{}/health/live", service.address.port());
    let answer = client_of(&certificate)
        .get(&url)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let ended = tokio::task::spawn_blocking(move || stream.read(&mut [0; 64]));
    let ended = ended.await.expect("no panic");
    assert!(
        matches!(ended, Ok(0))
            || ended.is_err_and(|error| { error.kind() == std::io::ErrorKind::ConnectionReset })
    );
}

#[test]
fn files_that_do_not_fit_are_refused_and_the_ones_from_before_are_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let other = tempfile::tempdir().expect("a directory");
    write_certificate(directory.path());
    write_certificate(other.path());
    let certificate = Certificate::open(&settings(directory.path())).expect("good files");
    let certificate = certificate.expect("TLS");
    let key = directory.path().join("key.pem");
    let good = fs::read(&key).expect("a key");
    for bad in [
        "",
        "-----BEGIN PRIVATE KEY-----\nhidden\n-----END PRIVATE KEY-----\n",
    ] {
        fs::write(&key, bad).expect("written");
        let error = format!("{:#}", certificate.reload().expect_err("no key"));
        assert!(!error.contains("hidden"), "{error}");
    }
    fs::copy(other.path().join("key.pem"), &key).expect("copied");
    let error = format!("{:#}", certificate.reload().expect_err("another key"));
    assert!(
        error.starts_with("certificate and key do not fit"),
        "{error}"
    );
    fs::write(&key, good).expect("written");
    certificate.reload().expect("the good ones again");
    assert!(
        Certificate::open(&TlsSettings::default())
            .expect("nothing")
            .is_none()
    );
}
