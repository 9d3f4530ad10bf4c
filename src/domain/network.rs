//! What a sandbox may reach. The agent's model, GitHub and the usual package registries are enough
//! for most work; everything else is a decision of the operator.

use super::secret::Secret;

/// Where a sandbox may connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    Open,
    Only {
        /// Names of hosts, `*.example.org` for those below one. Only TLS can be told by name.
        hosts: Vec<String>,
        /// Addresses in CIDR form, for hosts without a name.
        subnets: Vec<String>,
    },
}

/// Headers that a provider puts on the sandbox's requests to a host, without the sandbox seeing them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    pub host: String,
    /// Only requests whose path begins like this.
    pub path: String,
    pub headers: Vec<(String, Secret)>,
}

/// The operator's word on it, as of `SANDBOX_NETWORK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    Open,
    /// The usual hosts and these.
    Also(Vec<String>),
    /// These, GitHub and the agent's model: no package registries.
    OnlyThese(Vec<String>),
}

const REGISTRIES: [&str; 16] = [
    "registry.npmjs.org",
    "registry.yarnpkg.com",
    "nodejs.org",
    "pypi.org",
    "files.pythonhosted.org",
    "crates.io",
    "index.crates.io",
    "static.crates.io",
    "static.rust-lang.org",
    "proxy.golang.org",
    "sum.golang.org",
    "rubygems.org",
    "repo.maven.apache.org",
    "repo1.maven.org",
    "repo.packagist.org",
    "api.nuget.org",
];

/// Besides GitHub's own host, where its files are served from.
const GITHUB: [&str; 2] = ["*.github.com", "*.githubusercontent.com"];

impl Rule {
    /// Reads the setting: `open`, hosts by comma, or `only` followed by hosts.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        let (only, words) = match words.as_slice() {
            ["open"] => return Ok(Self::Open),
            ["only", rest @ ..] => (true, rest),
            all => (false, all),
        };
        if let Some(bad) = words.iter().find(|word| !is_host(word) && !is_subnet(word)) {
            return Err(format!("{bad:?} is neither a host nor a range of addresses"));
        }
        let hosts = words.iter().map(|word| word.to_ascii_lowercase()).collect();
        Ok(if only { Self::OnlyThese(hosts) } else { Self::Also(hosts) })
    }

    /// Whether the operator names the host of this address: then it may be a private one.
    pub fn names_host_of(&self, url: &str) -> bool {
        let named: &[String] = match self {
            Self::Open => return false,
            Self::Also(named) | Self::OnlyThese(named) => named,
        };
        let Some(host) = host_of(url) else { return false };
        named.iter().any(|one| *one == host || holds(one, &host))
    }

    /// The network of one run. `urls`: GitHub, the agent's model, whatever else the run talks to;
    /// `wished`: what people want besides, which an operator who names every host does not grant.
    pub fn network<'a>(
        &self,
        urls: impl IntoIterator<Item = &'a str>,
        wished: impl IntoIterator<Item = &'a str>,
    ) -> Network {
        let (registries, more): (&[&str], &[String]) = match self {
            Self::Open => return Network::Open,
            Self::Also(more) => (&REGISTRIES, more),
            Self::OnlyThese(more) => (&[], more),
        };
        let (mut hosts, mut subnets) = (Vec::new(), Vec::new());
        let wished = wished.into_iter().filter(|_| matches!(self, Self::Also(_)));
        let needed: Vec<String> = urls.into_iter().chain(wished).filter_map(host_of).collect();
        let github: &[&str] = if needed.iter().any(|host| host == "github.com") { &GITHUB } else { &[] };
        let usual = github.iter().chain(registries).map(|host| (*host).to_owned());
        for host in needed.iter().cloned().chain(usual).chain(more.iter().cloned()) {
            let list = if is_subnet(&host) { &mut subnets } else { &mut hosts };
            if !list.contains(&host) {
                list.push(host);
            }
        }
        Network::Only { hosts, subnets }
    }
}

/// Whether a range holds an address, or `*.example.org` a name.
fn holds(one: &str, host: &str) -> bool {
    if let Some(end) = one.strip_prefix('*') {
        return host.ends_with(end);
    }
    let parse = |text: &str| {
        let (address, bits) = text.split_once('/')?;
        Some((address.parse::<std::net::IpAddr>().ok()?, bits.parse::<u32>().ok()?))
    };
    let (Some((range, bits)), Some((address, _))) = (parse(one), parse(host)) else { return false };
    match (range, address) {
        (std::net::IpAddr::V4(range), std::net::IpAddr::V4(address)) => {
            let shift = 32 - bits.min(32);
            u32::from(range).checked_shr(shift) == u32::from(address).checked_shr(shift)
        }
        (std::net::IpAddr::V6(range), std::net::IpAddr::V6(address)) => {
            let shift = 128 - bits.min(128);
            u128::from(range).checked_shr(shift) == u128::from(address).checked_shr(shift)
        }
        _ => false,
    }
}

/// The host of an address; one without a name as the range that holds it alone.
fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority.split(':').next()?,
    };
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => Some(format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })),
        Err(_) => Some(host.to_ascii_lowercase()).filter(|host| is_host(host)),
    }
}

pub(super) fn is_host(word: &str) -> bool {
    let name = word.strip_prefix("*.").unwrap_or(word);
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
        && name.bytes().any(|b| b.is_ascii_alphabetic())
}

fn is_subnet(word: &str) -> bool {
    let Some((address, bits)) = word.split_once('/') else { return false };
    match (address.parse::<std::net::IpAddr>(), bits.parse::<u8>()) {
        (Ok(address), Ok(bits)) => bits <= if address.is_ipv4() { 32 } else { 128 },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(rule: &str, urls: &[&str]) -> (Vec<String>, Vec<String>) {
        match Rule::parse(rule).unwrap().network(urls.iter().copied(), []) {
            Network::Only { hosts, subnets } => (hosts, subnets),
            Network::Open => panic!("open"),
        }
    }

    #[test]
    fn what_a_run_talks_to_can_be_reached() {
        let (names, ranges) =
            hosts("", &["https://github.com", "https://api.anthropic.com/v1", "http://10.1.2.3:80", "http://[::1]:1"]);
        assert_eq!(names[..3], ["github.com", "api.anthropic.com", "*.github.com"]);
        assert!(names.contains(&"registry.npmjs.org".to_owned()));
        assert_eq!(ranges, ["10.1.2.3/32", "::1/128"]);
    }

    #[test]
    fn the_operator_adds_hosts_or_names_them_all() {
        let (names, ranges) = hosts("npm.example.org, 10.0.0.0/8", &["https://ghes.test"]);
        assert!(names.contains(&"npm.example.org".to_owned()) && names.contains(&"pypi.org".to_owned()));
        assert!(!names.contains(&"*.github.com".to_owned()), "an own GitHub needs no other");
        assert_eq!(ranges, ["10.0.0.0/8"]);
        let (names, _) = hosts("only,npm.example.org", &["https://ghes.test"]);
        assert_eq!(names, ["ghes.test", "npm.example.org"]);
        assert_eq!(Rule::parse("open").unwrap().network([], []), Network::Open);
    }

    #[test]
    fn wishes_are_granted_unless_the_operator_names_every_host() {
        let with_wish =
            |rule: &str| match Rule::parse(rule).unwrap().network(["https://ghes.test"], ["https://mcp.test/x"]) {
                Network::Only { hosts, .. } => hosts.contains(&"mcp.test".to_owned()),
                Network::Open => panic!("open"),
            };
        assert!(with_wish("") && !with_wish("only,npm.test"));
    }

    #[test]
    fn a_private_host_is_allowed_where_the_operator_names_it() {
        let rule = Rule::parse("127.0.0.0/8, *.corp.test, mcp.lan").unwrap();
        for named in ["http://127.0.0.1:4000/mcp", "https://a.corp.test/", "https://mcp.lan/mcp"] {
            assert!(rule.names_host_of(named), "{named}");
        }
        for other in ["http://128.0.0.1/", "https://corp.test.evil.test/", "https://lan/", "http://[::1]/"] {
            assert!(!rule.names_host_of(other), "{other}");
        }
        assert!(!Rule::Open.names_host_of("http://127.0.0.1/"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in ["a b", "https://x.test", "x.test/y", "*", "-x.test", "10.0.0.0/33", "x..y", "127.0.0.1"] {
            assert!(Rule::parse(bad).is_err(), "{bad}");
        }
    }
}
