//! A Redis server in this process, for simulations: it has the commands and scripts that the gateway uses,
//! and connections that are slow, lose messages of channels, and end in the middle of an answer, by chance.
//! The scripts themselves are tested against a real server.

mod store;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::ensure;
use redis::{RedisConnectionInfo, Script};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    sync::{Notify, mpsc},
    task::AbortHandle,
    time::sleep,
};

use self::store::{Store, bulk, error, integer, push, simple};
use crate::cluster::connection::{Connection, Limits, Receiver};

/// Bytes that are under way in one direction of a connection.
const WIRE_BYTES: usize = 64 * 1024;

/// What goes wrong, of 100 times each.
#[derive(Clone, Copy, Default)]
pub(crate) struct Harm {
    /// Messages of channels that are lost.
    pub(crate) lost: u8,
    /// Answers of which half is sent before the connection ends.
    pub(crate) halved: u8,
    /// The longest time that a request or an answer takes, in milliseconds.
    pub(crate) delay_ms: u64,
}

/// The server.
pub(crate) struct SimulatedRedis {
    state: Mutex<State>,
    /// Notified when the server answers again. The order in which a watch wakes is not that of a seed.
    resumed: Notify,
}

struct State {
    random: fastrand::Rng,
    harm: Harm,
    is_down: bool,
    is_paused: bool,
    executed: usize,
    store: Store,
    connections: Vec<Client>,
}

struct Client {
    answers: mpsc::UnboundedSender<Vec<u8>>,
    channels: HashSet<Vec<u8>>,
    task: Option<AbortHandle>,
}

impl SimulatedRedis {
    /// A server without data, whose choices come from `seed`.
    pub(crate) fn new(seed: u64, harm: Harm) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                random: fastrand::Rng::with_seed(seed),
                harm,
                is_down: false,
                executed: 0,
                is_paused: false,
                store: Store::default(),
                connections: Vec::new(),
            }),
            resumed: Notify::new(),
        })
    }

    /// Connects as the driver does.
    pub(in crate::cluster) async fn connect(
        self: &Arc<Self>,
        info: &RedisConnectionInfo,
        receiver: impl Receiver,
        limits: Limits,
    ) -> anyhow::Result<Connection> {
        ensure!(!self.lock().is_down, "the server is down");
        let (near, far) = duplex(WIRE_BYTES);
        let (answers, queue) = mpsc::unbounded_channel();
        let number = {
            let mut state = self.lock();
            state.connections.push(Client {
                answers,
                channels: HashSet::new(),
                task: None,
            });
            state.connections.len() - 1
        };
        let server = self.clone();
        let task = tokio::spawn(async move {
            let (from, to) = split(far);
            tokio::select! {
                biased;
                () = server.read(number, from) => {}
                () = server.write(queue, to) => {}
            }
        });
        self.lock().connections[number].task = Some(task.abort_handle());
        let connection = Connection::spawn(near, receiver, limits);
        connection.greet(info).await?;
        Ok(connection)
    }

    /// Ends a connection, counted from the first one that is open.
    pub(crate) fn cut(&self, index: usize) {
        let state = self.lock();
        let tasks = state.connections.iter().filter_map(|it| it.task.as_ref());
        let mut open = tasks.filter(|task| !task.is_finished());
        if let Some(task) = open.nth(index) {
            task.abort();
        }
    }

    /// Ends the process of the server, and all that it has.
    pub(crate) fn kill(&self) {
        let mut state = self.lock();
        state.is_down = true;
        state.store.restart();
        state.store.delete_all();
        state.cut_all();
    }

    /// Starts the server again.
    pub(crate) fn start(&self) {
        self.lock().is_down = false;
    }

    /// Puts a replica in the place of the server, without the last `lag` messages.
    pub(crate) fn fail_over(&self, lag: u64) {
        let mut state = self.lock();
        state.store.restart();
        state.store.lose(lag);
        state.cut_all();
    }

    /// Deletes all data.
    pub(crate) fn flush(&self) {
        self.lock().store.delete_all();
    }

    /// Answers nobody until [`Self::resume`], and keeps all connections.
    pub(crate) fn pause(&self) {
        self.lock().is_paused = true;
    }

    /// Ends [`Self::pause`].
    pub(crate) fn resume(&self) {
        self.lock().is_paused = false;
        self.resumed.notify_waiters();
    }

    /// Returns the number of commands that were carried out.
    pub(crate) fn executed(&self) -> usize {
        self.lock().executed
    }

    /// Ends all harm, for good.
    pub(crate) fn calm(&self) {
        self.lock().harm = Harm::default();
        self.start();
        self.resume();
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.lock().random.u64(..bound.max(1))
    }

    async fn pass(&self) {
        let delay = self.lock().harm.delay_ms;
        sleep(Duration::from_millis(self.below(delay + 1))).await;
        loop {
            let resumed = self.resumed.notified();
            if !self.lock().is_paused {
                return;
            }
            resumed.await;
        }
    }

    async fn read(&self, number: usize, mut from: ReadHalf<DuplexStream>) {
        let mut bytes = Vec::new();
        while from.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            while let Some((command, length)) = store::command(&bytes) {
                bytes.drain(..length);
                self.pass().await;
                self.lock().execute(number, &command);
            }
        }
    }

    async fn write(
        &self,
        mut answers: mpsc::UnboundedReceiver<Vec<u8>>,
        mut to: WriteHalf<DuplexStream>,
    ) {
        while let Some(answer) = answers.recv().await {
            self.pass().await;
            let is_halved = {
                let mut state = self.lock();
                let percent = state.harm.halved;
                state.random.u8(..100) < percent
            };
            let end = if is_halved {
                answer.len() / 2
            } else {
                answer.len()
            };
            if to.write_all(&answer[..end]).await.is_err() || is_halved {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn cut_all(&mut self) {
        for connection in &mut self.connections {
            if let Some(task) = connection.task.take() {
                task.abort();
            }
            connection.channels.clear();
        }
    }

    fn execute(&mut self, number: usize, command: &[Vec<u8>]) {
        self.executed += 1;
        let name = String::from_utf8_lossy(&command[0]).to_uppercase();
        let answer = match name.as_str() {
            "HELLO" => b"%1\r\n+server\r\n+redis\r\n".to_vec(),
            "CLIENT" => simple("OK"),
            "INFO" => {
                bulk(format!("run_id:0\r\nmaster_replid2:{}\r\n", self.store.run()).as_bytes())
            }
            "GET" => self.store.incarnation(),
            "SUBSCRIBE" | "UNSUBSCRIBE" => return self.subscribe(number, &name, &command[1..]),
            "SCRIPT" => {
                let text = String::from_utf8_lossy(&command[2]);
                let hash = Script::new(&text).get_hash().to_owned();
                self.store.add_script(&hash, &text);
                bulk(hash.as_bytes())
            }
            "EVALSHA" => {
                let (answer, published) = self.store.run_script(command);
                self.publish(published);
                answer
            }
            _ => error(&format!("ERR unknown command {name}")),
        };
        self.answer(number, answer);
    }

    fn subscribe(&mut self, number: usize, name: &str, channels: &[Vec<u8>]) {
        for channel in channels {
            let subscribed = &mut self.connections[number].channels;
            match name {
                "SUBSCRIBE" => subscribed.insert(channel.clone()),
                _ => subscribed.remove(channel),
            };
            let count = subscribed.len() as u64;
            let kind = bulk(name.to_lowercase().as_bytes());
            let confirmation = push(&[kind, bulk(channel), integer(count as i64)]);
            self.answer(number, confirmation);
        }
    }

    fn publish(&mut self, published: Vec<(Vec<u8>, Vec<u8>)>) {
        for (channel, payload) in published {
            for number in 0..self.connections.len() {
                let is_subscribed = self.connections[number].channels.contains(&channel);
                if is_subscribed && self.random.u8(..100) >= self.harm.lost {
                    let message = push(&[bulk(b"message"), bulk(&channel), bulk(&payload)]);
                    self.answer(number, message);
                }
            }
        }
    }

    fn answer(&self, number: usize, answer: Vec<u8>) {
        // Nobody takes the answers of a connection that has ended.
        let _ = self.connections[number].answers.send(answer);
    }
}
