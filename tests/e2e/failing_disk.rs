//! A disk that does not sync: nothing is acknowledged that would not outlive the machine's end.

use std::path::Path;

use harness::{Mode, Opening, Options, Stack, soon};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::revocation;

/// Takes the place of the C library's two functions, and fails while a file exists.
const FAILING_SYNC: &str = r#"
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int sync_by(long call, int file) {
    const char *sign = getenv("DISK_FAILS_WHILE");
    if (sign && access(sign, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return syscall(call, file);
}

int fsync(int file) { return sync_by(SYS_fsync, file); }
int fdatasync(int file) { return sync_by(SYS_fdatasync, file); }
"#;

/// The disk under both services.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().expect("a temporary directory"));
        std::fs::write(this.path("sync.c"), FAILING_SYNC).expect("a written file");
        let compiled = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-o", "sync.so", "sync.c"])
            .current_dir(this.0.path())
            .status();
        assert!(compiled.expect("a C compiler").success());
        this
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Starts a stack on this disk.
    async fn stack(&self) -> Stack {
        let options = Options::default()
            .mode(Mode::Binaries)
            .environment("LD_PRELOAD", &self.path("sync.so"))
            .environment("DISK_FAILS_WHILE", &self.path("fails"));
        Stack::start_with(options).await
    }

    fn fail(&self) {
        std::fs::write(self.path("fails"), "").expect("a written file");
    }

    fn recover(&self) {
        std::fs::remove_file(Path::new(&self.path("fails"))).expect("the file");
    }
}

/// Asks the issuer for tokens. Returns the status, and the refresh token if there is one.
async fn tokens(stack: &Stack, path: &str, body: Value) -> (StatusCode, Option<String>) {
    let request = stack.http().post(format!("{}{path}", stack.issuer_url));
    let answer = soon("an answer", request.json(&body).send()).await;
    let answer = answer.expect("an answer");
    let status = answer.status();
    let body: Value = answer.json().await.expect("JSON");
    let token = body["refresh_token"].as_str().map(str::to_owned);
    (status, token)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries and a C compiler"]
async fn the_issuer_acknowledges_nothing_that_is_not_synced() {
    let disk = Disk::new();
    let stack = disk.stack().await;
    let person = json!({"username": "alice", "password": stack.passwords().of("alice")});
    let login = || tokens(&stack, "/login", person.clone());
    let refresh = |token: &str| tokens(&stack, "/token/refresh", json!({ "refresh_token": token }));
    let (status, first) = login().await;
    assert_eq!(status, StatusCode::OK);
    let first = first.expect("a refresh token");
    disk.fail();
    for _ in 0..3 {
        let (status, token) = login().await;
        assert_eq!((status, token), (StatusCode::SERVICE_UNAVAILABLE, None));
        let (status, token) = refresh(&first).await;
        assert_eq!((status, token), (StatusCode::SERVICE_UNAVAILABLE, None));
    }
    disk.recover();
    assert_eq!(login().await.0, StatusCode::OK);
    // The refreshes that failed have spent nothing.
    let (status, second) = refresh(&first).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = refresh(&second.expect("a refresh token")).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries and a C compiler"]
async fn the_gateway_acknowledges_no_revocation_that_is_not_synced() {
    let disk = Disk::new();
    let mut stack = disk.stack().await;
    let forge = stack.forge();
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    let logout = revocation::logout_of(&forge).token();
    disk.fail();
    let answer = revocation::post(&stack, &logout).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    // Nobody waits for the disk to be shut out.
    assert_eq!(socket.closed().await, ["41"]);
    disk.recover();
    let answer = revocation::post(&stack, &logout).await;
    assert_eq!(answer.status(), StatusCode::OK);
    stack.restart_gateway().await;
    let refused = revocation::refusal_of(&Opening::of(&stack), &forge.token()).await;
    assert_eq!(refused.as_deref(), Some("jwt revoked"));
}
