//! The rows of presence as texts: in Redis, and in the messages of a room's channel.
//!
//! A field is `[iss, sub]` and its value `[connections, name, data]`, both JSON; the field without a name has
//! the version, the number of connections, and 1 when all rows are written.

use std::sync::Arc;

use redis::{FromRedisValue as _, Value};

use crate::rooms::User;

/// Row of a gateway about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::rooms) struct Row {
    /// Number of connections; 0 for a user who has just left and may come back.
    pub(in crate::rooms) connections: usize,
    pub(in crate::rooms) name: Option<Arc<str>>,
    /// The data to show beside the user, as JSON.
    pub(in crate::rooms) data: Option<Arc<str>>,
}

/// Statement of a gateway about a room as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rooms) struct Written {
    /// Grows with each write of the gateway.
    pub(in crate::rooms) version: u64,
    /// Number of connections, those of guests included.
    pub(in crate::rooms) connections: usize,
    /// Whether all rows are written.
    pub(in crate::rooms) is_complete: bool,
}

/// A user, and what is known about it; `None` when it has left.
pub(in crate::rooms) type UserRow = (User, Option<Row>);

/// A message of a room's channel.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::rooms) enum Notice {
    /// A gateway has written rows.
    Rows {
        /// The id of the gateway.
        id: Arc<str>,
        /// The version that the rows follow; without one, they replace all rows before.
        previous: Option<u64>,
        written: Written,
        rows: Vec<UserRow>,
    },
    /// The gateway with this id has no more rows.
    Gone(Arc<str>),
}

/// Rows of one gateway that were read.
pub(in crate::rooms) struct Page {
    pub(in crate::rooms) id: Arc<str>,
    pub(in crate::rooms) written: Written,
    /// Cursor of the next page; 0 after the last page.
    pub(in crate::rooms) cursor: u64,
    pub(in crate::rooms) rows: Vec<UserRow>,
}

impl Written {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let written = Self {
            version: parts.next()?.parse().ok()?,
            connections: parts.next()?.parse().ok()?,
            is_complete: parts.next()? == "1",
        };
        parts.next().is_none().then_some(written)
    }

    /// Encodes it as [`Self::parse`] reads it.
    pub(super) fn encode(self) -> String {
        let is_complete = u8::from(self.is_complete);
        format!("{} {} {is_complete}", self.version, self.connections)
    }
}

impl Notice {
    /// Returns the id of the gateway that it is about.
    pub(in crate::rooms) fn id(&self) -> &str {
        match self {
            Self::Rows { id, .. } | Self::Gone(id) => id,
        }
    }

    /// Parses a message; `None` when it is none.
    pub(in crate::rooms) fn parse(payload: &[u8]) -> Option<Self> {
        let mut lines = str::from_utf8(payload).ok()?.split('\n');
        let head = lines.next()?;
        let (kind, rest) = head.split_once(' ')?;
        if kind == "D" {
            return Some(Self::Gone(rest.into()));
        }
        let (id, rest) = rest.split_once(' ')?;
        let (previous, written) = rest.split_once(' ')?;
        let previous = match previous {
            "-" => None,
            version => Some(version.parse().ok()?),
        };
        let mut rows = Vec::new();
        while let Some(field) = lines.next() {
            rows.push(row(field, lines.next()?)?);
        }
        (kind == "C").then_some(Self::Rows {
            id: id.into(),
            previous,
            written: Written::parse(written)?,
            rows,
        })
    }
}

/// Encodes a user and its row: the field, and the value, which is empty when the user has left.
pub(super) fn encode((user, row): &UserRow) -> [String; 2] {
    let field = serde_json::to_string(&(&user.iss, &user.sub));
    let value = row.as_ref().map(|row| {
        let value = serde_json::to_string(&(row.connections, &row.name, &row.data));
        value.unwrap_or_default()
    });
    // Texts and numbers are always JSON.
    [field.unwrap_or_default(), value.unwrap_or_default()]
}

fn row(field: &str, value: &str) -> Option<UserRow> {
    let (iss, sub): (Option<Arc<str>>, Arc<str>) = serde_json::from_str(field).ok()?;
    let row = match value {
        "" => None,
        value => {
            let (connections, name, data) = serde_json::from_str(value).ok()?;
            Some(Row {
                connections,
                name,
                data,
            })
        }
    };
    Some((User { iss, sub }, row))
}

/// Reads the fields and values of a page.
pub(super) fn rows(values: Vec<Value>) -> Option<Vec<UserRow>> {
    let texts: Vec<String> = values
        .into_iter()
        .map(|value| String::from_redis_value(value).ok())
        .collect::<Option<_>>()?;
    let pairs = texts.chunks_exact(2);
    let named = pairs.filter(|pair| !pair[0].is_empty());
    named.map(|pair| row(&pair[0], &pair[1])).collect()
}

/// Reads what the script for reading answers about one gateway.
pub(super) fn page(value: Value) -> Option<Page> {
    let (id, written, cursor, values): (String, String, u64, Vec<Value>) =
        redis::from_redis_value(value).ok()?;
    Some(Page {
        id: id.into(),
        written: Written::parse(&written)?,
        cursor,
        rows: rows(values)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_what_was_written_whatever_is_in_the_names() {
        let user = |iss: Option<&str>, sub: &str| User {
            iss: iss.map(Into::into),
            sub: sub.into(),
        };
        let known = Row {
            connections: 2,
            name: Some("A \n \"Name\"".into()),
            data: Some("{\"desk\":\n7}".into()),
        };
        let rows = vec![
            (user(None, "alice\n-"), Some(known)),
            (user(Some("https://other.example"), ""), None),
        ];
        let written = Written {
            version: 7,
            connections: 3,
            is_complete: true,
        };
        for previous in [None, Some(6)] {
            let text = previous.map_or("-".to_owned(), |version: u64| version.to_string());
            let mut lines = vec![format!("C gateway-a.1 {text} {}", written.encode())];
            lines.extend(rows.iter().flat_map(encode));
            let notice = Notice::parse(lines.join("\n").as_bytes());
            let expected = Notice::Rows {
                id: "gateway-a.1".into(),
                previous,
                written,
                rows: rows.clone(),
            };
            assert_eq!(notice, Some(expected));
        }
        let gone = Notice::parse(b"D gateway-a.1");
        assert_eq!(gone, Some(Notice::Gone("gateway-a.1".into())));
        for text in [
            "",
            "D",
            "C a 1",
            "C a 1 2 3",
            "C a - 2 3 1\n[null,\"a\"]",
            "E a - 2 3 1",
        ] {
            assert_eq!(Notice::parse(text.as_bytes()), None, "{text}");
        }
    }
}
