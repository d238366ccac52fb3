//! The threads of one session in the orders that shuttle chooses: `tests/interleavings` runs these tests.

mod polling;
mod websocket;

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use shuttle::{
    Config, Runner,
    scheduler::{PctScheduler, RandomScheduler},
};

pub(crate) use super::pipe::Pipe;
use super::{
    CloseReason, EngineHandler, EngineQuery, EngineSettings, Recovered, Session, Shared,
    TransportKind, Violation, core::Core, sid::Sid, stream::ClientStream, websocket::WebSocketTask,
};
use crate::transport::{Dialect, SendQueue};

/// Number of orders of each kind that a test tries.
const ORDERS: usize = 2_000;

/// Number of interruptions of threads in an order of the second kind.
const INTERRUPTIONS: usize = 3;

/// Runs `test` in orders that are random, and in orders with few interruptions.
pub(crate) fn explore(test: impl Fn() + Clone + Send + Sync + 'static) {
    // Deadlines want a clock; no order reaches them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    let mut config = Config::new();
    config.stack_size = 512 * 1024;
    Runner::new(RandomScheduler::new(ORDERS), config.clone()).run(test.clone());
    Runner::new(PctScheduler::new(INTERRUPTIONS, ORDERS), config).run(test);
}

/// A session, and the task of its WebSocket.
pub(crate) struct Opened<H: EngineHandler> {
    shared: Arc<Shared<H>>,
    pub(crate) session: Arc<Session<H::Data>>,
}

impl<H: EngineHandler> Opened<H> {
    /// Opens a session that `transport` carries, with packets in `queue`.
    pub(crate) fn new(
        transport: TransportKind,
        queue: Arc<SendQueue>,
        handler: H,
        data: H::Data,
    ) -> Self {
        let shared = Arc::new(Shared {
            handler,
            core: Arc::new(Core::new(EngineSettings::default())),
            recover: |_| None,
        });
        let query = EngineQuery {
            dialect: Dialect::DEFAULT,
            transport,
            sid: None,
        };
        let core = shared.core.clone();
        let session = Arc::new(Session::new(Sid::generate(), &query, core, queue, data));
        Self { shared, session }
    }

    /// The task of a WebSocket over `pipe`, which carries the session, or probes for it if `is_probe`.
    pub(crate) fn task(&self, pipe: &Pipe, is_probe: bool) -> impl Future<Output = ()> + use<H> {
        let recovered = Recovered {
            stream: ClientStream::Pipe(pipe.clone()),
            unsent: Vec::new(),
            guard: None,
        };
        let (shared, session) = (self.shared.clone(), self.session.clone());
        WebSocketTask::new(shared, session, recovered, is_probe, &[])
    }
}

/// Takes every message, and keeps why the session ended.
#[derive(Clone, Default)]
struct Silent(Arc<OnceLock<CloseReason>>);

impl EngineHandler for Silent {
    type Data = ();

    fn opened(&self, _: &Arc<Session<()>>) {}

    fn text(&self, _: &Arc<Session<()>>, _: &str) -> Result<(), Violation> {
        Ok(())
    }

    fn binary(&self, _: &Arc<Session<()>>, _: Bytes) -> Result<(), Violation> {
        Ok(())
    }

    fn closed(&self, _: &Arc<Session<()>>, reason: CloseReason) {
        assert_eq!(self.0.set(reason), Ok(()), "told once");
    }
}

/// The messages of one thread among those that a client received, in the order in which they came.
fn of_thread<'a>(thread: &str, received: &'a [String]) -> Vec<&'a str> {
    let received = received
        .iter()
        .filter_map(|packet| packet.strip_prefix('4'));
    received.filter(|text| text.starts_with(thread)).collect()
}
