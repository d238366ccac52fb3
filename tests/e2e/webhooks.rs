//! Webhooks of the issuer, verified by the library that Standard Webhooks publishes.

use harness::{Options, Stack, webhook_receiver::WebhookReceiver};
use serde_json::json;

/// 32 bytes each, in base64.
const SECRETS: [&str; 3] = [
    "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=",
    "whsec_eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg=",
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn events_are_verified_by_either_of_two_secrets_and_by_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("secrets");
    for (held, is_accepted) in [(0, true), (1, true), (2, false)] {
        let mut receiver = WebhookReceiver::start(SECRETS[held]).await;
        std::fs::write(&file, format!("{}\n{}\n", SECRETS[0], SECRETS[1])).expect("a file");
        let options = Options::default()
            .auth("events.url", receiver.url.clone())
            .auth("events.secret_file", json!(file));
        let stack = Stack::start_with(options).await;
        let first = receiver.next().await;
        if is_accepted {
            assert_eq!(first["verified"]["type"], "user.created", "{first}");
            receiver.next().await;
            stack.login("alice").await;
            let login = receiver.next().await;
            assert_eq!(login["verified"]["type"], "login.new_device", "{login}");
            continue;
        }
        assert!(first["refused"].is_string(), "{first}");
        // The operator puts the secret of the receiver into the file, and the event comes again.
        std::fs::write(&file, format!("{}\n{}\n", SECRETS[0], SECRETS[2])).expect("a file");
        loop {
            let message = receiver.next().await;
            if message["verified"]["type"] == "user.created" {
                break;
            }
            assert!(message["refused"].is_string(), "{message}");
        }
    }
}
