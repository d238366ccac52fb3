//! A Redis server of one test, whose settings the test may change.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::{Client, cmd};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::config::ClusterSettings;

/// Time in which the server has to start.
const START_LIMIT: Duration = Duration::from_secs(15);

/// A Redis server on a free port of loopback. It ends when it is dropped.
pub(crate) struct OwnServer {
    process: Child,
    port: u16,
}

impl OwnServer {
    /// Starts a server that keeps nothing on the disk, and waits until it accepts connections.
    pub(crate) async fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let port = free.expect("a free port").port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        // A replica takes the data of its primary over the network, and not by a file.
        command.args(["--repl-diskless-load", "swapdb"]);
        command
            .args(["--port", &port.to_string()])
            .stdout(Stdio::null());
        let process = command.spawn().expect("redis-server");
        let (this, deadline) = (Self { process, port }, Instant::now() + START_LIMIT);
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < deadline, "redis-server does not start");
            sleep(Duration::from_millis(5)).await;
        }
        this
    }

    /// Takes the data of `primary` in place of its own, as its replica, and is a primary again.
    pub(crate) async fn take_data_of(&self, primary: &Self) {
        let client = Client::open(self.settings().url).expect("a URL");
        let connection = client.get_multiplexed_async_connection().await;
        let mut connection = connection.expect("a connection");
        let mut follow = cmd("REPLICAOF");
        follow.arg("127.0.0.1").arg(primary.port);
        let () = follow
            .query_async(&mut connection)
            .await
            .expect("a replica");
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let mut info = cmd("INFO");
            let info = info.arg("replication").query_async(&mut connection).await;
            let info: String = info.expect("an answer");
            if info.contains("master_link_status:up") {
                break;
            }
            assert!(Instant::now() < deadline, "the data does not arrive");
            sleep(Duration::from_millis(5)).await;
        }
        let mut lead = cmd("REPLICAOF");
        let lead = lead.arg("NO").arg("ONE").query_async(&mut connection).await;
        let () = lead.expect("a primary");
    }

    /// Settings of gateways that use the server.
    pub(crate) fn settings(&self) -> ClusterSettings {
        ClusterSettings {
            url: format!("redis://127.0.0.1:{}", self.port),
            ..ClusterSettings::default()
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
