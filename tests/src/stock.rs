//! The clients that people have, in the languages that they have them in: `tests/clients`.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{Options, Stack, soon, stack::Passwords};

/// How long all tests of one file may take.
const STOCK_DEADLINE: Duration = Duration::from_secs(300);

/// The lifetime of tokens in the stack `SHORT`, in seconds: README.md beside the clients names it.
const SHORT_LIFETIME_SECS: u64 = 6;

/// Starts a program of `tests/clients` with Node, which is spoken with over its standard streams. The program
/// ends when it is dropped.
///
/// # Panics
///
/// When Node is missing.
pub(crate) fn node_program(file: &str) -> Child {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients");
    Command::new("node")
        .arg(file)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run node: {error}"))
}

/// Returns the command that runs a program of `tests/clients` with Python.
///
/// # Panics
///
/// When the packages are missing.
pub(crate) fn python(file: &str) -> Command {
    let mut python = Command::new(installed(".venv").join("bin/python"));
    python.arg("-B").arg(file).current_dir(clients());
    python
}

/// The stacks of the tests that need nothing special: one as it is by default, and `SHORT`, whose
/// tokens are short-lived.
#[must_use]
pub fn usual_stacks() -> Vec<(&'static str, Options)> {
    let short = Options::default().token_lifetime_secs(SHORT_LIFETIME_SECS);
    vec![("", Options::default()), ("SHORT", short)]
}

/// Runs all tests of `file` with Node against stacks that have the same people. The one with the
/// name `NAME` is told to them as `NAME_GATEWAY_URL`, `NAME_ISSUER_URL` and `NAME_SECRET`, the one
/// without a name as `GATEWAY_URL`, `ISSUER_URL` and `SECRET`.
///
/// # Panics
///
/// When one fails or is skipped, or when Node or the packages are missing.
pub async fn run_node_tests(file: &str, stacks: Vec<(&str, Options)>) {
    run_node_tests_with(file, stacks, &[]).await;
}

/// Runs all tests of `file` as [`run_node_tests`] does, with further `variables`.
///
/// # Panics
///
/// When one fails or is skipped, or when Node or the packages are missing.
pub async fn run_node_tests_with(
    file: &str,
    stacks: Vec<(&str, Options)>,
    variables: &[(&str, &str)],
) {
    let mut node = node_tests(file);
    node.envs(variables.iter().copied());
    let output = run(node, file, stacks).await;
    assert_all_ran(file, &output);
}

/// Runs all tests of `file` with Node against the server that `variables` name.
///
/// # Panics
///
/// When one fails or is skipped, or when Node or the packages are missing.
pub async fn run_node_tests_at(file: &str, variables: &[(&str, &str)]) {
    let mut node = node_tests(file);
    node.envs(variables.iter().copied());
    assert_all_ran(file, &output_of(node, file).await);
}

/// Runs the official protocol suite in `folder`, whose packages are installed, against the server that
/// `variables` name. Answers the titles of the tests: those that pass, and those that fail.
///
/// # Panics
///
/// When the suite cannot be run.
pub async fn run_official_suite(
    folder: &Path,
    variables: &[(&str, &str)],
) -> (Vec<String>, Vec<String>) {
    let preload = clients().join("suite-url.mjs");
    let mut mocha = Command::new("node");
    mocha.arg("--import").arg(preload);
    mocha.args([
        "node_modules/mocha/bin/mocha",
        "--reporter=json",
        "--retries=2",
    ]);
    mocha.arg("test-suite.js").current_dir(folder);
    mocha.envs(variables.iter().copied());
    let ended = ended(mocha, "the official suite").await;
    let report = String::from_utf8_lossy(&ended.stdout);
    println!("{report}");
    let report: Value = serde_json::from_str(&report).expect("mocha's report");
    let titles = |of: &str| {
        let tests = report[of].as_array().expect("tests").iter();
        let title = |test: &Value| test["fullTitle"].as_str().expect("a title").to_owned();
        tests.map(title).collect()
    };
    (titles("passes"), titles("failures"))
}

/// Node with the tests of `file`.
fn node_tests(file: &str) -> Command {
    installed("node_modules");
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=tap", file]);
    node.current_dir(clients());
    node
}

/// Checks in Node's summary that something ran, and that nothing was left out.
fn assert_all_ran(file: &str, output: &str) {
    let count = |what: &str| {
        let line = output
            .lines()
            .find_map(|line| line.strip_prefix(&format!("# {what} ")));
        line.and_then(|number| number.parse::<u32>().ok())
            .expect("node's summary")
    };
    assert!(count("pass") > 0, "{file}: nothing ran");
    assert_eq!(
        count("skipped") + count("todo") + count("cancelled"),
        0,
        "{file}: left out"
    );
}

/// The same with Python.
///
/// # Panics
///
/// When one fails or is skipped, or when Python or the packages are missing.
pub async fn run_python_tests(file: &str, stacks: Vec<(&str, Options)>) {
    let mut python = Command::new(installed(".venv").join("bin/python"));
    python.args(["-B", "-m", "unittest", "--verbose", file]);
    let output = run(python, file, stacks).await;
    let summary = output.lines().rfind(|line| line.starts_with("Ran "));
    let summary = summary.expect("unittest's summary");
    assert!(!summary.starts_with("Ran 0 "), "{file}: nothing ran");
    // Had something been skipped, the line would say so.
    assert!(output.lines().any(|line| line == "OK"), "{file}: left out");
}

/// The same with Java, all tests of `tests/clients/java`.
///
/// # Panics
///
/// When one fails or is skipped, or when Java or the packages are missing.
pub async fn run_java_tests(stacks: Vec<(&str, Options)>) {
    let target = installed("java/target");
    let classes = target.join("test-classes");
    let path = format!("{}:{}/jars/*", classes.display(), target.display());
    let mut java = Command::new("java");
    java.args(["-cp", &path, "org.testng.TestNG"]);
    java.args(["-usedefaultlisteners", "false"]);
    java.args(["-testclass", "latchkey.StockTest"]);
    let output = run(java, "the tests in Java", stacks).await;
    let summary = output.lines().find(|line| line.starts_with("Total tests"));
    let summary = summary.expect("TestNG's summary");
    assert!(!summary.contains(" run: 0,"), "nothing ran");
    assert!(summary.ends_with(" Skips: 0"), "left out: {summary}");
}

/// Runs `program`, some Python, with `arguments` and `variables`, and gives what it printed.
///
/// # Panics
///
/// When it fails, or when Python or the packages are missing.
pub async fn run_python(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut python = Command::new(installed(".venv").join("bin/python"));
    python.args(["-B", "-c", program]).args(arguments);
    python.envs(variables.iter().copied());
    python.stdin(Stdio::null()).kill_on_drop(true);
    let ended = soon("the end of a program", python.output()).await;
    let ended = ended.expect("a program that starts");
    let [printed, complaints] =
        [ended.stdout, ended.stderr].map(|output| String::from_utf8_lossy(&output).into_owned());
    assert!(ended.status.success(), "{}: {complaints}", ended.status);
    printed
}

fn clients() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// The folder of a language's packages.
fn installed(name: &str) -> PathBuf {
    let packages = clients().join(name);
    assert!(
        packages.is_dir(),
        "{}: missing; README.md beside it says what makes it",
        packages.display()
    );
    packages
}

/// Runs a program beside the clients, which finds the stacks in its environment. Answers what it
/// said, once it has ended well.
async fn run(mut program: Command, file: &str, stacks: Vec<(&str, Options)>) -> String {
    let passwords = Passwords::default();
    let mut kept = Vec::new();
    for (name, options) in stacks {
        let stack = Stack::start_for(options, passwords.clone()).await;
        let prefix = match name {
            "" => String::new(),
            name => format!("{name}_"),
        };
        program
            .env(format!("{prefix}GATEWAY_URL"), &stack.gateway_url)
            .env(format!("{prefix}ISSUER_URL"), &stack.issuer_url)
            .env(format!("{prefix}SECRET"), &stack.secret);
        kept.push(stack);
    }
    program
        .current_dir(clients())
        .env("ALICE_PASSWORD", passwords.of("alice"))
        .env("BOB_PASSWORD", passwords.of("bob"));
    output_of(program, file).await
}

/// Runs a program to its end under a deadline.
async fn ended(mut program: Command, name: &str) -> Output {
    let ended = program.stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = tokio::time::timeout(STOCK_DEADLINE, ended).await;
    let ended = ended.expect("the tests to end");
    ended.unwrap_or_else(|error| panic!("cannot run {name}: {error}"))
}

/// Runs a program that has to end well. Answers what it said, both streams together.
async fn output_of(program: Command, file: &str) -> String {
    let ended = ended(program, file).await;
    let output = [ended.stdout, ended.stderr].concat();
    let output = String::from_utf8_lossy(&output).into_owned();
    println!("{output}");
    assert!(ended.status.success(), "{file}: {}", ended.status);
    output
}
