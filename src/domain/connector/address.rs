//! Which addresses a connector may have (threat T19): public ones, by TLS. What a name stands for is
//! not looked up here: the sandbox calls connectors, the service never does.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Names that stand for the machine itself, its network, or a cloud's metadata.
const PRIVATE_NAMES: [&str; 5] = ["localhost", "local", "internal", "lan", "home.arpa"];

/// `Err` is one sentence for the visitor. The parser knows the many spellings of an address.
pub fn check(text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|_| "this is no address".to_owned())?;
    if url.scheme() != "https" {
        return Err("a connector's address begins with https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an address holds no name or password; use a header".to_owned());
    }
    let public = match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            let is_private = |end: &&str| name == *end || name.ends_with(&format!(".{end}"));
            name.contains('.') && !PRIVATE_NAMES.iter().any(is_private)
        }
        Some(Host::Ipv4(address)) => is_public_v4(address),
        Some(Host::Ipv6(address)) => is_public_v6(address),
        None => false,
    };
    if public { Ok(()) } else { Err("a connector's address has to be a public one".to_owned()) }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_unspecified()
        || address.is_multicast()
        || a == 0
        || a >= 240
        // Carriers' shared space, protocol assignments, benchmarks, 6to4 relays.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || (a == 192 && b == 88 && c == 99);
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let part = address.segments();
    // Those that carry an IPv4 address stand for it: mapped, compatible, NAT64, 6to4, Teredo.
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match part {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => inner(high, low) && part[6] != 0,
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        [0x2002, high, low, ..] => inner(high, low),
        // Global unicast, without documentation, Teredo and benchmarks.
        [first, second, ..] => {
            (0x2000..0x4000).contains(&first)
                && !(first == 0x2001 && (second == 0xdb8 || second < 0x200))
                && !(first == 0x3fff && second < 0x1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_a_private_address_passes() {
        for bad in [
            "http://example.com/mcp",
            "ftp://example.com",
            "file:///etc/passwd",
            "https://",
            "mcp",
            "https://user@example.com",
            "https://user:pass@example.com",
            "https://localhost",
            "https://LOCALHOST:8080",
            "https://localhost.",
            "https://a.localhost",
            "https://printer.local",
            "https://metadata.google.internal",
            "https://router.lan",
            "https://nas.home.arpa",
            "https://intranet",
            "https://127.0.0.1",
            "https://127.1",
            "https://2130706433",
            "https://0x7f000001",
            "https://0177.0.0.1",
            "https://0x7f.1",
            "https://127.0.0.1.",
            "https://10.0.0.1",
            "https://172.16.0.1",
            "https://192.168.1.1",
            "https://169.254.169.254",
            "https://100.64.0.1",
            "https://0.0.0.0",
            "https://0",
            "https://192.0.0.8",
            "https://198.18.0.1",
            "https://224.0.0.1",
            "https://255.255.255.255",
            "https://240.0.0.1",
            "https://203.0.113.5",
            "https://[::1]",
            "https://[::]",
            "https://[::ffff:127.0.0.1]",
            "https://[::ffff:7f00:1]",
            "https://[::127.0.0.1]",
            "https://[64:ff9b::a00:1]",
            "https://[fe80::1]",
            "https://[fd00::1]",
            "https://[fc00::1]",
            "https://[ff02::1]",
            "https://[2001:db8::1]",
            "https://[2002:7f00:1::]",
            "https://[2001::1]",
            "https://１２７.0.0.1",
            "https://ⓛocalhost",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        for good in [
            "https://mcp.linear.app/sse",
            "https://8.8.8.8/mcp",
            "https://[2606:4700::1111]/mcp",
            "https://[64:ff9b::808:808]",
            "https://example.com:8443/mcp?a=b",
            "https://internal.example.com",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }
}
