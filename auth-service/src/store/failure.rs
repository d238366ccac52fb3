//! Failures of a database.

use std::{io, sync::Arc};

use sqlx::{Error, error::DatabaseError, migrate::MigrateError};

/// The database failed. What was looked for and not found is no error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be made.
    #[error("cannot make the database {path}")]
    File {
        /// The file.
        path: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// There is something, but not a database that can be used.
    #[error("cannot open the database {database}: {}", cause.story())]
    Open {
        /// The server, without a password.
        database: String,
        /// Cause of the failure.
        cause: Box<StoreError>,
    },
    /// The tables cannot be brought up to date.
    #[error("cannot bring the database up to date")]
    Migration(#[source] MigrateError),
    /// The tables are those of another version.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A query failed.
    #[error("the database failed")]
    Query(#[from] Error),
    /// An earlier statement of the transaction failed.
    #[error("a statement of the transaction has failed before")]
    Aborted,
    /// A query took too long, and was given up.
    #[error("the database takes too long")]
    TooSlow,
    /// Too many requests wait for the database already.
    #[error("too many refreshes wait for the database; try again later")]
    QueueFull,
    /// A statement or a commit that a request shared with other requests failed.
    #[error(transparent)]
    Batch(Arc<StoreError>),
}

/// Reason that the tables of a database do not fit this version of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Nobody made them.
    #[error(
        "it has no tables: set AUTH__DATABASE_URL to the one of the running service, or make them with \
         `auth-service migrate`"
    )]
    Missing,
    /// An older version made them.
    #[error(
        "its tables are those of an older version (migration {found}, and this version needs \
         {needed}): run `auth-service migrate`, or start the service"
    )]
    Older {
        /// The newest migration of the database.
        found: i64,
        /// The newest migration of this version.
        needed: i64,
    },
    /// A newer version made them, or brought them up to date.
    #[error(
        "its tables are those of a newer version (migration {found}, and this version knows those \
         up to {known}): install that version, or restore the backup from before the upgrade"
    )]
    Newer {
        /// The newest migration of the database.
        found: i64,
        /// The newest migration of this version.
        known: i64,
    },
}

/// The kinds of failure that an operator can do something about, and the one that is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// Nothing answers, or nobody lets us in.
    Unreachable,
    /// Somebody else holds what we need.
    Busy,
    /// The database can be read and not written.
    ReadOnly,
    /// There is no space left.
    Full,
    /// The operating system cannot read or write it.
    Failing,
    /// The file is no longer a database.
    Damaged,
    /// Anything else: a statement of ours is wrong.
    Defect,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Unreachable,
        Self::Busy,
        Self::ReadOnly,
        Self::Full,
        Self::Failing,
        Self::Damaged,
        Self::Defect,
    ];

    /// The name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Busy => "busy",
            Self::ReadOnly => "read_only",
            Self::Full => "full",
            Self::Failing => "failing",
            Self::Damaged => "damaged",
            Self::Defect => "defect",
        }
    }
}

impl StoreError {
    /// Returns the kind of the failure.
    #[must_use]
    pub fn trouble(&self) -> FailureKind {
        match self {
            Self::File { .. } => FailureKind::Failing,
            Self::Open { cause, .. } => cause.trouble(),
            Self::Query(error) => trouble_of(error),
            Self::Migration(_) | Self::Schema(_) | Self::Aborted => FailureKind::Defect,
            Self::TooSlow => FailureKind::Unreachable,
            Self::QueueFull => FailureKind::Busy,
            Self::Batch(error) => error.trouble(),
        }
    }

    /// The whole story in one line for the log, without what a statement was given: PostgreSQL
    /// repeats a value that it cannot use.
    #[must_use]
    pub fn story(&self) -> String {
        let mut story = self.to_string();
        let cause = match self {
            Self::File { source, .. } => source.to_string(),
            Self::Query(error) => cause_of(error),
            Self::Migration(error) => error.to_string(),
            Self::Batch(error) => return error.story(),
            Self::Open { .. }
            | Self::Schema(_)
            | Self::Aborted
            | Self::TooSlow
            | Self::QueueFull => {
                return story;
            }
        };
        story.push_str(": ");
        story.push_str(&cause);
        story
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::Query(error)
            }
            error => Self::Migration(error),
        }
    }
}

fn cause_of(error: &Error) -> String {
    match error {
        Error::Database(error) if repeats_values(error.as_ref()) => {
            format!("SQLSTATE {}", error.code().unwrap_or_default())
        }
        error => error.to_string(),
    }
}

/// Whether the text may repeat a value: those of the classes "data exception" and "integrity
/// constraint violation" do.
fn repeats_values(error: &(dyn DatabaseError + 'static)) -> bool {
    let code = error.code().unwrap_or_default();
    code.len() == SQLSTATE_LENGTH && (code.starts_with("22") || code.starts_with("23"))
}

/// PostgreSQL's codes have five characters; SQLite's are numbers of at most four digits.
const SQLSTATE_LENGTH: usize = 5;

fn trouble_of(error: &Error) -> FailureKind {
    match error {
        Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            match code.parse::<u32>() {
                Ok(code)
                    if error
                        .code()
                        .is_some_and(|code| code.len() < SQLSTATE_LENGTH) =>
                {
                    trouble_of_sqlite(code)
                }
                _ => trouble_of_postgres(&code),
            }
        }
        Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed
        | Error::BeginFailed => FailureKind::Unreachable,
        _ => FailureKind::Defect,
    }
}

/// After the lowest byte of an extended result code (sqlite.org/rescode.html).
fn trouble_of_sqlite(code: u32) -> FailureKind {
    match code & 0xff {
        // BUSY, LOCKED, PROTOCOL
        5 | 6 | 15 => FailureKind::Busy,
        // PERM, READONLY
        3 | 8 => FailureKind::ReadOnly,
        // NOMEM, IOERR
        7 | 10 => FailureKind::Failing,
        // CORRUPT, NOTADB
        11 | 26 => FailureKind::Damaged,
        // FULL
        13 => FailureKind::Full,
        // CANTOPEN
        14 => FailureKind::Unreachable,
        _ => FailureKind::Defect,
    }
}

/// After PostgreSQL's appendix A, "error codes".
fn trouble_of_postgres(code: &str) -> FailureKind {
    match code {
        // Too many connections, cancelled, locked by another, deadlock, serialization.
        "53300" | "57014" | "55P03" | "40P01" | "40001" => FailureKind::Busy,
        // A standby, or a server whose operator wants it so.
        "25006" => FailureKind::ReadOnly,
        "53100" => FailureKind::Full,
        "53000" | "53200" | "53400" | "58000" | "58030" => FailureKind::Failing,
        "XX001" | "XX002" => FailureKind::Damaged,
        // No such database.
        "3D000" => FailureKind::Unreachable,
        // Connection, authorization, and an operator's intervention.
        code if ["08", "28", "57"].contains(&code.get(..2).unwrap_or_default()) => {
            FailureKind::Unreachable
        }
        _ => FailureKind::Defect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_tells_what_the_operator_can_do() {
        for (code, trouble) in [
            (5, FailureKind::Busy),
            (517, FailureKind::Busy),
            (8, FailureKind::ReadOnly),
            (1032, FailureKind::ReadOnly),
            (13, FailureKind::Full),
            (778, FailureKind::Failing),
            (11, FailureKind::Damaged),
            (26, FailureKind::Damaged),
            (14, FailureKind::Unreachable),
            (1, FailureKind::Defect),
            (2067, FailureKind::Defect),
        ] {
            assert_eq!(trouble_of_sqlite(code), trouble, "{code}");
        }
        for (code, trouble) in [
            ("57P01", FailureKind::Unreachable),
            ("08006", FailureKind::Unreachable),
            ("28P01", FailureKind::Unreachable),
            ("53300", FailureKind::Busy),
            ("25006", FailureKind::ReadOnly),
            ("53100", FailureKind::Full),
            ("58030", FailureKind::Failing),
            ("XX001", FailureKind::Damaged),
            ("42P01", FailureKind::Defect),
            ("", FailureKind::Defect),
        ] {
            assert_eq!(trouble_of_postgres(code), trouble, "{code}");
        }
    }
}
