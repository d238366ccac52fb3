//! A primary with a replica, which sentinels watch, for one test.

use std::fs;

use tempfile::TempDir;

use super::Redis;
use crate::{eventually, random_text};

/// Time after which a primary that does not answer is down, in milliseconds.
const DOWN_AFTER_MS: u32 = 500;

/// Number of sentinels, of which two have to agree.
const SENTINELS: usize = 3;

/// The name of the primary.
const NAME: &str = "main";

/// A primary, a replica, and three sentinels with a password.
pub struct SentinelGroup {
    /// The first primary, and its replica.
    pub servers: [Redis; 2],
    /// The password of the sentinels.
    pub password: String,
    sentinels: Vec<Redis>,
    _files: TempDir,
}

impl SentinelGroup {
    /// Starts the servers, and waits until the sentinels know the replica and one another.
    ///
    /// # Panics
    ///
    /// When they do not start.
    pub async fn start() -> Self {
        let primary = Redis::start().await;
        let (host, port) = primary
            .address()
            .rsplit_once(':')
            .expect("a host and a port");
        let options = ["--replicaof", host, port].map(str::to_owned);
        let replica = Redis::start_with(options.to_vec()).await;
        let (files, password) = (tempfile::tempdir().expect("a directory"), random_text(18));
        let mut sentinels = Vec::new();
        for number in 0..SENTINELS {
            let file = files.path().join(format!("sentinel-{number}.conf"));
            let text = format!(
                "sentinel monitor {NAME} {host} {port} 2\n\
                 sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n\
                 sentinel failover-timeout {NAME} 5000\n\
                 sentinel sentinel-pass {password}\n\
                 requirepass {password}\n"
            );
            fs::write(&file, text).expect("a written file");
            let options = vec![file.display().to_string(), "--sentinel".to_owned()];
            sentinels.push(Redis::spawn_with(options));
        }
        let group = Self {
            servers: [primary, replica],
            password,
            sentinels,
            _files: files,
        };
        group.complete().await;
        group
    }

    /// The URL of the group.
    #[must_use]
    pub fn url(&self) -> String {
        let sentinels: Vec<_> = self.sentinels.iter().map(Redis::address).collect();
        format!("redis+sentinel://{}/{NAME}", sentinels.join(","))
    }

    /// Makes a primary of the replica, and has all sentinels name it. The first primary goes on, with its
    /// connections.
    ///
    /// # Panics
    ///
    /// When a server refuses.
    pub async fn name_the_replica(&self) {
        let replica = &self.servers[1];
        assert_eq!(replica.command("REPLICAOF NO ONE").await, "+OK");
        let (host, port) = replica
            .address()
            .rsplit_once(':')
            .expect("a host and a port");
        for sentinel in &self.sentinels {
            let commands = format!(
                "AUTH {}\r\nSENTINEL REMOVE {NAME}\r\nSENTINEL MONITOR {NAME} {host} {port} 2",
                self.password
            );
            let answer = sentinel.text(&commands).await;
            assert_eq!(answer, "+OK\r\n+OK\r\n+OK\r\n");
        }
    }

    /// Waits until every sentinel knows the replica and the other sentinels.
    async fn complete(&self) {
        for sentinel in &self.sentinels {
            eventually("a sentinel that knows everybody", async || {
                let command = format!("AUTH {}\r\nINFO sentinel", self.password);
                let Ok(info) = sentinel.try_text(&command).await else {
                    return false;
                };
                info.contains("slaves=1,sentinels=3")
            })
            .await;
        }
        eventually("a replica that follows", async || {
            let info = self.servers[1].text("INFO replication").await;
            info.contains("master_link_status:up")
        })
        .await;
    }
}
