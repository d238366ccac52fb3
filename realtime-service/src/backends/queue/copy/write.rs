//! Writing the copy: whole, and then change by change.

use std::sync::LazyLock;

use redis::Script;
use tokio::time::{sleep, timeout};

use super::{Keys, QueueCopy, RENEWAL_INTERVAL, RETRY_PAUSE};
use crate::{
    backends::queue::store::{Edition, Page, Place},
    cluster::Away,
    ids::random_id,
};

static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("write.lua")));

/// A step of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Begins a draft, adds rows to it, and has it take the place of the copy.
    Begin,
    Fill,
    Finish,
    /// Adds changes to the copy.
    Change,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Fill => "fill",
            Self::Finish => "finish",
            Self::Change => "change",
        }
    }
}

/// Reason why nothing was written.
enum NotWritten {
    /// Redis is away or silent, or the file cannot be read.
    Away,
    /// Redis has another copy, or none.
    Outdated,
    /// Another gateway has adopted the queue.
    Adopted,
}

impl From<Away> for NotWritten {
    fn from(_: Away) -> Self {
        Self::Away
    }
}

impl QueueCopy {
    /// Has the copy follow the file; never returns.
    pub(super) async fn follow(&self) {
        loop {
            match self.write_next().await {
                Ok(true) => {
                    let changed = self.progress.changed.notified();
                    let _ = timeout(RENEWAL_INTERVAL, changed).await;
                }
                Ok(false) => {}
                Err(problem) => {
                    self.fall_behind(&problem);
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Has nobody wait for the copy any more.
    fn fall_behind(&self, problem: &NotWritten) {
        self.metrics.queue_copied(false);
        let was_awaited = self.progress.fall_back();
        match problem {
            NotWritten::Away if was_awaited => {
                tracing::warn!(
                    "the copy of the queue in Redis is behind: events are on the disk alone"
                );
            }
            NotWritten::Away => {}
            NotWritten::Outdated => {
                tracing::warn!("Redis has lost the copy of the queue: it is written anew");
                self.progress.lose_edition();
            }
            NotWritten::Adopted => {
                tracing::warn!(
                    "another gateway has adopted this queue while Redis was away: it goes on under another id, and \
                     its events are sent twice"
                );
                self.progress.set_id(random_id().into());
            }
        }
    }

    /// Notes that the copy has all changes up to the version of the edition.
    fn advance(&self, edition: &Edition) {
        if self.progress.advance(edition) {
            self.metrics.queue_copied(true);
            tracing::info!("the copy of the queue in Redis is up to date");
        }
    }

    /// Writes the copy anew if it has to be, or else the next changes. Returns whether there are no further ones.
    async fn write_next(&self) -> Result<bool, NotWritten> {
        let keys = self.keys();
        let Some(edition) = self.progress.edition() else {
            self.write_whole(&keys).await?;
            return Ok(false);
        };
        let before = edition.version;
        let page = self.read(move |store| store.changes_since(before)).await?;
        let edition = Edition {
            version: page.version,
            ..edition
        };
        self.write(&keys, Step::Change, (before, &edition), &page)
            .await?;
        self.advance(&edition);
        Ok(page.is_last)
    }

    async fn write_whole(&self, keys: &Keys) -> Result<(), NotWritten> {
        // Nobody adopts a queue that is not registered.
        self.register().await?;
        let edition = self.progress.begin_edition();
        let written = self.write_draft(keys, &edition).await;
        match written {
            Ok(()) => self.advance(&edition),
            // Changes are not kept for a copy that is not there.
            Err(_) => self.progress.lose_edition(),
        }
        written
    }

    async fn write_draft(&self, keys: &Keys, edition: &Edition) -> Result<(), NotWritten> {
        let source = (edition.version, edition);
        let empty = Page {
            rows: Vec::new(),
            version: edition.version,
            is_last: true,
        };
        self.write(keys, Step::Begin, source, &empty).await?;
        for mut place in [Place::BEFORE_EVENTS, Place::BEFORE_BOOKS] {
            loop {
                let page = self.read(move |store| store.rows_after(place)).await?;
                let Some((last, _)) = page.rows.last() else {
                    break;
                };
                place = *last;
                self.write(keys, Step::Fill, source, &page).await?;
            }
        }
        self.write(keys, Step::Finish, source, &empty).await
    }

    /// Writes the rows of a page, which lead from the version `before` to that of the edition.
    async fn write(
        &self,
        keys: &Keys,
        step: Step,
        (before, edition): (i64, &Edition),
        page: &Page,
    ) -> Result<(), NotWritten> {
        let mut script = WRITE.key(&keys.lease);
        script.key(&keys.adopted).key(&keys.rows).key(&keys.order);
        script.key(&keys.draft_rows).key(&keys.draft_order);
        script.arg(&*self.progress.id()).arg(self.lease_ms());
        script.arg(step.name()).arg(&edition.name);
        script.arg(before).arg(edition.version);
        let mut bytes = 0;
        for (place, row) in &page.rows {
            let row = row.as_deref().unwrap_or_default();
            bytes += row.len();
            script.arg(place.name()).arg(row);
        }
        match self.invoke(keys, &script, bytes).await? {
            1 => Ok(()),
            -1 => Err(NotWritten::Adopted),
            _ => Err(NotWritten::Outdated),
        }
    }
}
