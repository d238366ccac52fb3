//! The back ends of docs/recipes.md, as they stand there.

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::{eventually, free_address, stock::installed};

/// Maximum time to compile a program, with the standard library of its language.
const BUILD_DEADLINE: Duration = Duration::from_secs(180);

/// A program of the page that is running.
pub struct Recipe {
    /// The URL that is posted to.
    pub url: String,
    /// Dropping it ends the process.
    _child: Child,
    _directory: TempDir,
}

/// Returns the one program of the page in `language`.
///
/// # Panics
///
/// When there is none, or another one.
fn program_in(language: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/recipes.md")).expect("docs/recipes.md");
    let opening = format!("```{language}\n");
    let mut programs = page.split(&opening).skip(1);
    let program = programs.next().and_then(|rest| rest.split("```\n").next());
    assert!(programs.next().is_none(), "there is a second program");
    program.expect("a program").to_owned()
}

impl Recipe {
    /// Starts the program in `language`, as its block on the page is marked.
    ///
    /// # Panics
    ///
    /// When the language or its packages are missing, or the program does not listen.
    pub async fn start(language: &str, secret: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let program = program_in(language);
        let mut command = match language {
            "python" => {
                fs::write(path("shop.py"), program).expect("a written file");
                let mut python = Command::new(installed(".venv").join("bin/python"));
                python.args(["-B", "shop.py"]);
                python
            }
            "js" => {
                fs::write(path("shop.mjs"), program).expect("a written file");
                let packages = installed("node_modules");
                std::os::unix::fs::symlink(packages, path("node_modules")).expect("a link");
                let mut node = Command::new("node");
                node.arg("shop.mjs");
                node
            }
            "go" => {
                fs::write(path("shop.go"), program).expect("a written file");
                let mut build = Command::new("go");
                build.args(["build", "-o", "shop", "shop.go"]);
                let built = build.current_dir(directory.path()).output();
                let built = tokio::time::timeout(BUILD_DEADLINE, built).await;
                let built = built.expect("go to end").expect("go");
                let complaints = String::from_utf8_lossy(&built.stderr);
                assert!(built.status.success(), "{complaints}");
                Command::new(path("shop"))
            }
            other => panic!("{other}: no such language"),
        };
        let address = free_address();
        let (_, port) = address.rsplit_once(':').expect("a port");
        command.current_dir(directory.path()).kill_on_drop(true);
        command.env("PORT", port).env("WEBHOOK_SECRET", secret);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("a program that starts");
        eventually("the program listens", async || {
            TcpStream::connect(&address).await.is_ok()
        })
        .await;
        Self {
            url: format!("http://{address}/latchkey"),
            _child: child,
            _directory: directory,
        }
    }
}
