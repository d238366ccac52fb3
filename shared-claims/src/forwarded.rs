//! The client's address behind proxies, from `X-Forwarded-For` or `Forwarded` (RFC 7239).
//!
//! One header is read, the one that a setting names: a proxy passes the other one on as a client wrote
//! it. Each proxy appends whom it heard from, so a header is read from its end, and only as long as
//! whoever wrote the next element is trusted. Therefore nothing that a client wrote in front of what a
//! proxy appended changes how the proxy's element is read.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address::is_trusted;

/// The name of the header `X-Forwarded-For`.
pub const FORWARDED_FOR: &str = "x-forwarded-for";

/// The header in which the trusted proxies name the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: a list of addresses.
    #[default]
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): a list of elements, of which the parameter `for` is read.
    #[serde(rename = "forwarded")]
    Forwarded,
}

impl ForwardedHeader {
    /// The name of the header, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => FORWARDED_FOR,
            Self::Forwarded => "forwarded",
        }
    }
}

impl FromStr for ForwardedHeader {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            FORWARDED_FOR => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err(()),
        }
    }
}

/// The address of a client, as far as trusted proxies tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The address that no trusted proxy has, or that of the proxy which does not tell its client's.
    pub address: IpAddr,
    /// Whether a trusted proxy sent an element that cannot be parsed. All clients behind that proxy
    /// then share one address, which an operator should be told.
    pub is_malformed: bool,
}

/// Returns the client of a request that `peer` sent with these `values` of `header`, in the order of
/// the request.
#[must_use]
pub fn client_of<'a>(
    peer: IpAddr,
    header: ForwardedHeader,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[IpNet],
) -> ClientAddress {
    let mut address = peer.to_canonical();
    for value in values.rev() {
        let mut rest = Some(value);
        while let Some(list) = rest {
            if !is_trusted(address, trusted) {
                return ClientAddress {
                    address,
                    is_malformed: false,
                };
            }
            let (before, element) = split_last(list, header);
            rest = before;
            match Node::parse(element, header) {
                Node::Empty => {}
                Node::Address(next) => address = next.to_canonical(),
                node => {
                    return ClientAddress {
                        address,
                        is_malformed: node == Node::Malformed,
                    };
                }
            }
        }
    }
    ClientAddress {
        address,
        is_malformed: false,
    }
}

/// What one element of a list says about the client of the proxy that appended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Address(IpAddr),
    /// The proxy does not tell the address (RFC 7239, section 6).
    Hidden,
    /// An empty element, which is ignored (RFC 9110, section 5.6.1).
    Empty,
    Malformed,
}

impl Node {
    fn parse(element: &[u8], header: ForwardedHeader) -> Self {
        let Some(text) = str::from_utf8(element).ok().filter(|text| text.is_ascii()) else {
            return Self::Malformed;
        };
        match (text.trim(), header) {
            ("", _) => Self::Empty,
            (text, ForwardedHeader::XForwardedFor) => Self::of_name(&unquoted(text)),
            (text, ForwardedHeader::Forwarded) => Self::of_element(text),
        }
    }

    /// Reads the parameter `for` of an element such as `for="[2001:db8::1]:443";proto=https`.
    fn of_element(element: &str) -> Self {
        let mut name = None;
        for pair in split_pairs(element) {
            let Some((key, value)) = pair.split_once('=') else {
                return Self::Malformed;
            };
            if key.trim().eq_ignore_ascii_case("for") {
                if name.is_some() {
                    return Self::Malformed;
                }
                name = Some(unquoted(value.trim()));
            }
        }
        name.map_or(Self::Hidden, |name| Self::of_name(&name))
    }

    /// Reads an address with or without a port: `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`,
    /// `[2001:db8::1]` or `[2001:db8::1]:443`.
    fn of_name(name: &str) -> Self {
        if name.eq_ignore_ascii_case("unknown") || name.starts_with('_') {
            return Self::Hidden;
        }
        let bracketed = || name.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
        let with_port = || Some(name.parse::<SocketAddr>().ok()?.ip());
        // A port may be hidden too, and then it begins with an underscore.
        let before_hidden_port = || {
            let (address, _) = name.rsplit_once(":_")?;
            address.trim_matches(['[', ']']).parse().ok()
        };
        let address = name.parse::<IpAddr>().ok();
        address
            .or_else(|| bracketed().map(IpAddr::V6))
            .or_else(with_port)
            .or_else(before_hidden_port)
            .map_or(Self::Malformed, Self::Address)
    }
}

/// Splits the last element off a list at the last comma that is not quoted, read from the end. Quotes
/// in front of it, which a client may have left open, do not matter.
fn split_last(list: &[u8], header: ForwardedHeader) -> (Option<&[u8]>, &[u8]) {
    let mut is_quoted = false;
    for (index, byte) in list.iter().enumerate().rev() {
        match byte {
            b'"' if header == ForwardedHeader::Forwarded && !is_escaped(list, index) => {
                is_quoted = !is_quoted;
            }
            b',' if !is_quoted => return (Some(&list[..index]), &list[index + 1..]),
            _ => {}
        }
    }
    (None, list)
}

/// Whether an odd number of backslashes stands before the byte at `index`.
fn is_escaped(list: &[u8], index: usize) -> bool {
    let before = list[..index].iter().rev();
    before.take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Splits an element at the semicolons that are not quoted.
fn split_pairs(element: &str) -> Vec<&str> {
    let (mut pairs, mut start, mut is_quoted) = (Vec::new(), 0, false);
    for (index, byte) in element.bytes().enumerate() {
        match byte {
            b'"' if !is_escaped(element.as_bytes(), index) => is_quoted = !is_quoted,
            b';' if !is_quoted => {
                pairs.push(&element[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    pairs.push(&element[start..]);
    pairs
}

/// The content of a quoted string (RFC 9110, section 5.6.4), or the text itself.
fn unquoted(text: &str) -> Cow<'_, str> {
    match text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    {
        Some(content) if content.contains('\\') => content.replace('\\', "").into(),
        Some(content) => content.into(),
        None => text.into(),
    }
}

/// Lets one report a minute through. It is shared by all threads.
#[derive(Debug, Default)]
pub struct ReportInterval(AtomicU64);

impl ReportInterval {
    /// Time between two reports, in seconds.
    const SECS: u64 = 60;

    /// Returns whether a report is due `secs` seconds after any fixed moment, and counts it if so.
    #[must_use]
    pub fn is_due(&self, secs: u64) -> bool {
        let next = secs.saturating_add(Self::SECS);
        let due = |after: u64| (secs >= after).then_some(next);
        let order = Ordering::Relaxed;
        self.0.fetch_update(order, order, due).is_ok()
    }
}

#[cfg(test)]
mod tests;
