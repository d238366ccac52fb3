//! A log that is slow, fails, and loses notices: what a log on another machine may do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Appended, Draft, Extract, LogError, MemoryLog, MemoryLogs, MessageKey, Selection};

/// What goes wrong, by chance.
pub(in crate::rooms) struct Faults {
    seed: AtomicU64,
    has_ended: AtomicBool,
    /// Of 100 calls, so many fail.
    pub(in crate::rooms) failures: u64,
    /// Of 100 notices, so many are lost.
    pub(in crate::rooms) lost: u64,
    /// How long a call takes at most, in milliseconds.
    pub(in crate::rooms) delay_ms: u64,
}

impl Faults {
    pub(in crate::rooms) fn new(seed: u64, failures: u64, lost: u64, delay_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            seed: AtomicU64::new(seed),
            has_ended: AtomicBool::new(false),
            failures,
            lost,
            delay_ms,
        })
    }

    /// A number below `bound` (SplitMix64).
    pub(in crate::rooms) fn below(&self, bound: u64) -> u64 {
        let seed = self
            .seed
            .fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let mut bits = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % bound.max(1)
    }

    /// Ends all failures and losses. Calls still take their time.
    pub(in crate::rooms) fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }

    /// Whether something goes wrong this time, which it does `percent` times of 100.
    fn happens(&self, percent: u64) -> bool {
        self.below(100) < percent && !self.has_ended.load(Ordering::Relaxed)
    }

    async fn delay(&self) {
        let delay = self.below(self.delay_ms + 1);
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }

    async fn pass(&self) -> Result<(), LogError> {
        self.delay().await;
        match self.happens(self.failures) {
            true => Err(LogError::Unavailable),
            false => Ok(()),
        }
    }
}

/// A log in memory behind a bad network.
pub(in crate::rooms) struct FaultyLog {
    log: MemoryLog,
    faults: Arc<Faults>,
}

impl FaultyLog {
    pub(in crate::rooms) fn new(logs: Arc<MemoryLogs>, faults: Arc<Faults>) -> Self {
        Self {
            log: MemoryLog::new(logs),
            faults,
        }
    }

    pub(super) fn memory(&self) -> &MemoryLog {
        &self.log
    }

    pub(super) async fn append(
        &self,
        draft: &Draft,
        key: Option<&MessageKey>,
    ) -> Result<Appended, LogError> {
        self.faults.pass().await?;
        let mut appended = self.log.append(draft, key, tokio::time::Instant::now())?;
        if self.faults.happens(self.faults.lost) {
            appended.message = None;
        }
        // The answer takes its time too, so notices overtake one another.
        self.faults.delay().await;
        Ok(appended)
    }

    pub(super) async fn read(&self, selection: &Selection) -> Result<Extract, LogError> {
        self.faults.pass().await?;
        let extract = self.log.read(selection, tokio::time::Instant::now());
        self.faults.delay().await;
        Ok(extract)
    }
}
