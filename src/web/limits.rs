//! How often one address may try to sign in, and how many connections it may hold.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName};

use crate::domain::ids::Millis;

const PER_MINUTE: u32 = 30;
/// GitHub itself sends from a handful of addresses, and is answered within milliseconds.
const MAX_CONNECTIONS_OF_ONE: usize = 400;
/// Addresses remembered at once; more begin anew.
const MAX_ADDRESSES: usize = 10_000;

/// Whose connection it is.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

impl Peer {
    /// Behind a proxy on this machine or network, the address that the proxy saw: the last one in this header.
    pub fn client(self, headers: &HeaderMap, header: &HeaderName) -> Self {
        let is_near = near(self.0.to_canonical());
        let seen = headers.get_all(header).iter().next_back().and_then(|value| value.to_str().ok());
        let last = seen.and_then(|list| list.rsplit(',').next()).and_then(|text| text.trim().parse().ok());
        last.filter(|_| is_near).map_or(self, Self)
    }
}

/// On this machine or network: a proxy, most likely, that serves many.
fn near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            // Between a provider's machines: 100.64.0.0/10 (RFC 6598).
            let is_shared = matches!(address.octets(), [100, 64..=127, ..]);
            address.is_loopback() || address.is_private() || address.is_link_local() || is_shared
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

/// Who is counted as one: with IPv6 everybody has a whole network, of 64 bits at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Counted {
    Address(Ipv4Addr),
    Network([u8; 8]),
}

impl Peer {
    fn counted(self) -> Counted {
        match self.0.to_canonical() {
            IpAddr::V4(address) => Counted::Address(address),
            IpAddr::V6(address) => Counted::Network(network(address)),
        }
    }
}

fn network(address: Ipv6Addr) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = address.octets();
    [a, b, c, d, e, f, g, h]
}

/// Open connections by address: nobody holds all places (threat T27).
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<HashMap<Counted, usize>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Connection {
    of: Connections,
    peer: Option<Counted>,
}

impl Connections {
    /// `None`: this address has its share.
    pub fn open(&self, peer: Peer) -> Option<Connection> {
        if near(peer.0.to_canonical()) {
            return Some(Connection { of: self.clone(), peer: None });
        }
        let mut by_address = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = peer.counted();
        let open = by_address.entry(counted).or_insert(0);
        if *open >= MAX_CONNECTIONS_OF_ONE {
            return None;
        }
        *open += 1;
        Some(Connection { of: self.clone(), peer: Some(counted) })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(peer) = self.peer else { return };
        let mut by_address = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = by_address.get(&peer).map_or(0, |open| open.saturating_sub(1));
        match open {
            0 => by_address.remove(&peer),
            open => by_address.insert(peer, open),
        };
    }
}

#[derive(Debug, Default)]
pub struct Tries {
    by_address: Mutex<HashMap<Counted, (i64, u32)>>,
}

impl Tries {
    /// Whether one more is let in now.
    pub fn allow(&self, peer: Peer, now: Millis) -> bool {
        let minute = now.0.div_euclid(60_000);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if by_address.len() >= MAX_ADDRESSES {
            by_address.clear();
        }
        let (since, tries) = by_address.entry(peer.counted()).or_insert((minute, 0));
        if *since != minute {
            (*since, *tries) = (minute, 0);
        }
        *tries = tries.saturating_add(1);
        *tries <= PER_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_nearby_tells_who_it_serves() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "6.6.6.6, 9.9.9.9".parse().unwrap());
        headers.insert("fly-client-ip", "7.7.7.7".parse().unwrap());
        let by = |text: &str, header: &str| {
            Peer(text.parse().unwrap()).client(&headers, &header.parse().unwrap()).0.to_string()
        };
        let of = |text: &str| by(text, "x-forwarded-for");
        assert_eq!(
            (of("127.0.0.1"), of("10.1.2.3"), of("8.8.8.8")),
            ("9.9.9.9".into(), "9.9.9.9".into(), "8.8.8.8".into())
        );
        assert_eq!(
            (by("172.16.0.9", "fly-client-ip"), by("8.8.8.8", "fly-client-ip")),
            ("7.7.7.7".into(), "8.8.8.8".into())
        );
    }

    #[test]
    fn an_address_is_what_it_stands_for() {
        let near = |text: &str| super::near(text.parse::<IpAddr>().unwrap().to_canonical());
        for text in ["127.0.0.1", "::ffff:10.0.0.1", "100.64.0.9", "100.127.0.9", "fe80::1", "fdaa::3", "::1"] {
            assert!(near(text), "{text}");
        }
        for text in ["8.8.8.8", "::ffff:8.8.8.8", "100.63.0.1", "100.128.0.1", "2001:db8::1"] {
            assert!(!near(text), "{text}");
        }
        let counted = |text: &str| Peer(text.parse().unwrap()).counted();
        assert_eq!(counted("::ffff:8.8.8.8"), counted("8.8.8.8"));
        assert_eq!(counted("2001:db8::1"), counted("2001:db8::ffff:1"));
        assert_ne!(counted("2001:db8::1"), counted("2001:db8:0:1::1"));
    }

    #[test]
    fn one_address_holds_so_many_connections_and_a_proxy_nearby_more() {
        let connections = Connections::default();
        let [far, other, near] = ["8.8.8.8", "9.9.9.9", "10.0.0.1"].map(|text| Peer(text.parse().unwrap()));
        let mut held: Vec<_> = (0..MAX_CONNECTIONS_OF_ONE).map(|_| connections.open(far).unwrap()).collect();
        assert!(connections.open(far).is_none());
        assert!(connections.open(other).is_some());
        assert!((0..2 * MAX_CONNECTIONS_OF_ONE).all(|_| connections.open(near).is_some()));
        held.pop();
        assert!(connections.open(far).is_some());
        drop(held);
        assert!(connections.0.lock().unwrap().is_empty());
    }

    #[test]
    fn one_address_has_so_many_tries_a_minute() {
        let (tries, now) = (Tries::default(), Millis(60_000));
        let [one, two] = ["10.0.0.1", "10.0.0.2"].map(|text| Peer(text.parse().unwrap()));
        assert!((0..PER_MINUTE).all(|_| tries.allow(one, now)));
        assert!(!tries.allow(one, now));
        assert!(tries.allow(two, now));
        assert!(tries.allow(one, Millis(120_000)));
    }
}
