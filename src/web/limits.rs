//! How often one address may try to sign in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::domain::ids::Millis;

const PER_MINUTE: u32 = 30;
/// Addresses remembered at once; more begin anew.
const MAX_ADDRESSES: usize = 10_000;

/// Whose connection it is.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

#[derive(Debug, Default)]
pub struct Tries {
    by_address: Mutex<HashMap<IpAddr, (i64, u32)>>,
}

impl Tries {
    /// Whether one more is let in now.
    pub fn allow(&self, peer: Peer, now: Millis) -> bool {
        let minute = now.0.div_euclid(60_000);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if by_address.len() >= MAX_ADDRESSES {
            by_address.clear();
        }
        let (since, tries) = by_address.entry(peer.0).or_insert((minute, 0));
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
    fn one_address_has_so_many_tries_a_minute() {
        let (tries, now) = (Tries::default(), Millis(60_000));
        let [one, two] = ["10.0.0.1", "10.0.0.2"].map(|text| Peer(text.parse().unwrap()));
        assert!((0..PER_MINUTE).all(|_| tries.allow(one, now)));
        assert!(!tries.allow(one, now));
        assert!(tries.allow(two, now));
        assert!(tries.allow(one, Millis(120_000)));
    }
}
