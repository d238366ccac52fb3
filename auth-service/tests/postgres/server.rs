//! A PostgreSQL server that a test may do to what it likes.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

/// The user that the server runs as when we are root, which it refuses to be.
const SERVER_USER: &str = "postgres";

pub(crate) struct Server {
    directory: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Server {
    pub(crate) fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Self {
            directory: tempfile::tempdir().expect("a directory"),
            programs: programs(),
            port: free.local_addr().expect("an address").port(),
        };
        drop(free);
        if is_root() {
            let passwd = fs::read_to_string("/etc/passwd").expect("the users");
            let user = passwd
                .lines()
                .find(|line| line.split(':').next() == Some(SERVER_USER))
                .and_then(|line| line.split(':').nth(2)?.parse().ok());
            chown(server.directory.path(), user, None).expect("given");
        }
        let options = "--auth=trust --username=latchkey --encoding=UTF8 --no-sync";
        server.control(&["--options", options, "initdb"]);
        server.start_again();
        server
    }

    /// The URL of a database that is there from the beginning.
    pub(crate) fn url(&self) -> String {
        format!("postgres://latchkey@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) fn start_again(&self) {
        let path = self.directory.path().display();
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories= \
             -c fsync=off",
            self.port
        );
        let log = format!("{path}/log");
        self.control(&["--wait", "--log", &log, "--options", &options, "start"]);
    }

    /// Ends it at once, without a word to those who are connected.
    pub(crate) fn stop(&self) {
        self.control(&["--wait", "--mode", "immediate", "stop"]);
    }

    /// Kills every process of it, and waits until they are gone.
    pub(crate) fn kill(&self) {
        // The first of them starts no more while the others are listed.
        signal("STOP", &[self.first_process()]);
        let processes = self.processes();
        signal("KILL", &processes);
        for process in processes {
            while is_running(process) {
                std::thread::yield_now();
            }
        }
        // The file names a process, which the next server takes for a running one until it is buried.
        fs::remove_file(self.data().join("postmaster.pid")).expect("removed");
    }

    /// Lets none of its processes do anything.
    pub(crate) fn freeze(&self) {
        signal("STOP", &self.processes());
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) {
        signal("CONT", &self.processes());
    }

    pub(crate) async fn execute(&self, statement: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut connection)
            .await
            .expect(statement);
    }

    /// The first column of every row.
    pub(crate) async fn texts(&self, query: &'static str) -> Vec<String> {
        let rows = sqlx::query_scalar(query);
        rows.fetch_all(&mut self.connect().await)
            .await
            .expect(query)
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.expect("a server")
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn first_process(&self) -> u32 {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).expect("a process");
        let number = file.lines().next().and_then(|line| line.parse().ok());
        number.expect("a number")
    }

    /// The first process, and those that it has started.
    fn processes(&self) -> Vec<u32> {
        let first = self.first_process();
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
        let children = children.expect("its children");
        let children = children.split_whitespace().map(|child| child.parse());
        std::iter::once(first)
            .chain(children.map(|child| child.expect("a number")))
            .collect()
    }

    fn control(&self, arguments: &[&str]) {
        let output = self.try_control(arguments);
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        assert!(output.status.success(), "{arguments:?}: {log}");
    }

    fn try_control(&self, arguments: &[&str]) -> Output {
        let program = self.programs.join("pg_ctl");
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", SERVER_USER, "--regid", SERVER_USER]);
            command.arg("--clear-groups").arg(program);
            command
        } else {
            Command::new(program)
        };
        // The server would keep a pipe open, and whoever reads it waiting.
        command
            .arg("--pgdata")
            .arg(self.data())
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .expect("pg_ctl")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.thaw();
        self.try_control(&["--wait", "--mode", "immediate", "stop"]);
    }
}

/// Where Debian has the server's programs, or else where they can be called.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|programs| programs.join("initdb").exists())
        .max();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let callable = std::env::split_paths(&path).find(|folder| folder.join("initdb").exists());
    newest.or(callable).expect("PostgreSQL's server")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("ourselves").uid() == 0
}

fn signal(name: &str, processes: &[u32]) {
    let mut command = Command::new("kill");
    command.arg(format!("-{name}"));
    command.args(processes.iter().map(u32::to_string));
    // One that has ended meanwhile is as good as signalled.
    command.stderr(Stdio::null()).status().expect("kill");
}

/// Whether a process does anything yet: one that waits to be buried does not.
fn is_running(process: u32) -> bool {
    let path = format!("/proc/{process}/stat");
    fs::read_to_string(Path::new(&path)).is_ok_and(|stat| !stat.contains(") Z "))
}
