//! A Redis server that a test may do to what it likes.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

/// Time in which the server has to start.
const START_LIMIT: Duration = Duration::from_secs(15);

/// A Redis server on a free port of loopback, which keeps nothing on the disk. It ends when it is dropped.
pub(crate) struct RedisServer {
    port: u16,
    process: Mutex<Child>,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a free port").port();
        Self {
            port,
            process: Mutex::new(spawn(port)),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it, and waits until it is gone with its data.
    pub(crate) fn stop(&self) {
        let mut process = self.process.lock().expect("a lock");
        process.kill().expect("killed");
        process.wait().expect("an end");
    }

    /// Starts another one in its place.
    pub(crate) fn start_again(&self) {
        *self.process.lock().expect("a lock") = spawn(self.port);
    }

    /// Lets it do nothing.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// All keys, and the time that each lives, in milliseconds.
    pub(crate) fn keys(&self) -> Vec<(String, i64)> {
        let mut connection = self.connect();
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("*")
            .query(&mut connection)
            .expect("keys");
        let time = |key: String| {
            let time = redis::cmd("PTTL").arg(&key).query(&mut connection);
            (key, time.expect("a time"))
        };
        keys.into_iter().map(time).collect()
    }

    /// Sets a value of its configuration.
    pub(crate) fn set(&self, name: &str, value: &str) {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(name).arg(value);
        set.exec(&mut self.connect()).expect("set");
    }

    fn connect(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("a URL");
        client.get_connection().expect("a connection")
    }

    fn signal(&self, signal: &str) {
        let id = self.process.lock().expect("a lock").id();
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {id}")])
            .status();
        assert!(kill.expect("a shell").success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Ok(process) = self.process.get_mut() {
            // The process may have ended.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn spawn(port: u16) -> Child {
    let process = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &port.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server");
    let deadline = Instant::now() + START_LIMIT;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "redis-server does not start");
        std::thread::yield_now();
    }
    process
}
