//! Bound of the open connections of one address, for a listener.
//!
//! A connection costs a file descriptor, of which the process has a limited number: without this bound one
//! address could hold all of them, by connections that send nothing. A connection with TLS is counted from
//! the end of its handshake, which has three seconds.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Shutdown},
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{dev::Extensions, rt::net::TcpStream};
use ipnet::IpNet;
use shared_claims::address::{AddressKey, is_trusted};
use socket2::SockRef;

/// Number of open connections by address. Has no entry of an address without one.
type Counts = Arc<Mutex<HashMap<AddressKey, usize>>>;

/// Counts the connections of a listener, and closes further ones of an address that has too many.
pub(crate) struct ConnectionLimit {
    counts: Counts,
    most: usize,
    exempt: Vec<IpNet>,
}

/// A connection that is counted, until it is dropped.
struct Counted {
    counts: Counts,
    key: AddressKey,
}

impl ConnectionLimit {
    /// Allows `most` connections of one address, of IPv6 of one /64. A proxy among the `exempt` networks
    /// brings the connections of many clients, and has no limit.
    pub(crate) fn new(most: usize, exempt: &[IpNet]) -> Self {
        Self {
            counts: Counts::default(),
            most,
            exempt: exempt.to_vec(),
        }
    }

    /// Counts a connection until its end, or shuts its socket down. Called once for each connection.
    pub(crate) fn on_connect(&self, socket: &TcpStream, extensions: &mut Extensions) {
        // An address that is not known belongs to a client that has gone.
        let Ok(peer) = socket.peer_addr() else {
            return;
        };
        if is_trusted(peer.ip(), &self.exempt) {
            return;
        }
        match self.count(peer.ip()) {
            Some(counted) => {
                extensions.insert(counted);
            }
            // The server reads the end of the stream, and closes the connection.
            None => drop(SockRef::from(socket).shutdown(Shutdown::Both)),
        }
    }

    fn count(&self, address: IpAddr) -> Option<Counted> {
        let key = AddressKey::from(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Counted {
            counts: Arc::clone(&self.counts),
            key,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = counts.entry(self.key) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_so_many_connections_and_another_is_not_held_up() {
        let limit = ConnectionLimit::new(2, &[]);
        let count = |text: &str| limit.count(text.parse().expect("an address"));
        let first = count("2001:db8::1").expect("counted");
        let _second = count("2001:db8::2").expect("counted");
        assert!(count("2001:db8::3").is_none());
        let other = count("2001:db8:0:1::1").expect("counted");
        drop((first, other));
        assert!(count("2001:db8::3").is_some());
        assert_eq!(limit.counts.lock().expect("a lock").len(), 1);
    }
}
