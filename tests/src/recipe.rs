//! The programs of a page in docs/, as they stand there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::{binary::path_of as built, eventually, free_address, stock::installed};

/// Maximum time to compile a program, with the standard library of its language and its packages.
const BUILD_DEADLINE: Duration = Duration::from_secs(180);

/// A program of the page that is running.
pub struct Recipe {
    /// The URL of its root, without a slash at the end.
    pub url: String,
    /// Dropping it ends the process.
    _child: Child,
    _directory: TempDir,
}

/// Returns the one program of `page` in `language`.
///
/// # Panics
///
/// When there is none, or another one.
#[must_use]
pub fn program_in(page: &str, language: &str) -> String {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = fs::read_to_string(docs.join(page)).expect(page);
    let opening = format!("```{language}\n");
    let mut programs = page.split(&opening).skip(1);
    let program = programs.next().and_then(|rest| rest.split("```\n").next());
    assert!(programs.next().is_none(), "there is a second program");
    program.expect("a program").to_owned()
}

impl Recipe {
    /// Starts the program of `page` in `language`, as its block there is marked, with `variables` and `PORT`.
    ///
    /// # Panics
    ///
    /// When the language or its packages are missing, or the program does not listen; in Rust, when the
    /// program differs from the example of its name that cargo has built.
    pub async fn start(page: &str, language: &str, variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let address = free_address();
        let (_, port) = address.rsplit_once(':').expect("a port");
        let program = program_in(page, language);
        let mut command = command(directory.path(), (page, language), &program, &address).await;
        command.current_dir(directory.path()).kill_on_drop(true);
        command.env("PORT", port).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("a program that starts");
        eventually("the program listens", async || {
            TcpStream::connect(&address).await.is_ok()
        })
        .await;
        Self {
            url: format!("http://{address}"),
            _child: child,
            _directory: directory,
        }
    }
}

/// Writes a program into `directory`, and returns the command that runs it.
async fn command(
    directory: &Path,
    (page, language): (&str, &str),
    program: &str,
    address: &str,
) -> Command {
    let path = |name: &str| directory.join(name);
    match language {
        "python" => {
            fs::write(path("program.py"), program).expect("a written file");
            let mut python = Command::new(installed(".venv").join("bin/python"));
            python.args(["-B", "program.py"]);
            python
        }
        "js" => {
            fs::write(path("program.mjs"), program).expect("a written file");
            let packages = installed("node_modules");
            std::os::unix::fs::symlink(packages, path("node_modules")).expect("a link");
            let mut node = Command::new("node");
            node.arg("program.mjs");
            node
        }
        "go" => {
            fs::write(path("program.go"), program).expect("a written file");
            for name in ["go.mod", "go.sum"] {
                fs::copy(installed("go").join(name), path(name)).expect("a copied file");
            }
            let mut build = Command::new("go");
            build.args(["build", "-o", "program", "."]);
            let built = build.current_dir(directory).output();
            let built = tokio::time::timeout(BUILD_DEADLINE, built).await;
            let built = built.expect("go to end").expect("go");
            let complaints = String::from_utf8_lossy(&built.stderr);
            assert!(built.status.success(), "{complaints}");
            Command::new(path("program"))
        }
        "rust" => {
            let name = page.trim_end_matches(".md").replace('-', "_");
            let source = format!("{}/examples/{name}.rs", env!("CARGO_MANIFEST_DIR"));
            let source = fs::read_to_string(source).expect("an example");
            assert_eq!(source, program, "{page} has another program");
            Command::new(built(&format!("examples/{name}")))
        }
        "php" => {
            fs::write(path("program.php"), program).expect("a written file");
            let mut php = Command::new("php");
            php.args(["-S", address, "program.php"]);
            // Each request is logged there.
            php.stderr(Stdio::null());
            php
        }
        "ruby" => {
            fs::write(path("program.rb"), program).expect("a written file");
            let mut ruby = Command::new("ruby");
            ruby.arg("program.rb").env("APP_ENV", "production");
            ruby
        }
        other => panic!("{other}: no such language"),
    }
}
