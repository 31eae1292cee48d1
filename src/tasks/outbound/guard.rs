//! Guard: which URLs and addresses a request may reach.
//!
//! One parser decides, the one that connects: whatever the caller wrote is first normalised to a string, and from
//! then on only [`http::Uri`](Uri), which ureq itself connects by, is looked at. A [`Policy`] is a value. A task's
//! input always gets [`Policy::Public`]; an address that the operator has set gets [`Policy::Exactly`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use ureq::http::{Uri, uri::Scheme};
use url::Url;

/// Longer URLs are refused. RFC 9110, section 4.1, asks for at least 8,000 octets.
const MAX_URL_BYTES: usize = 8192;

/// What may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// Global addresses on ports 80 and 443, and what the operator has opened.
    Public {
        /// Networks that are reachable though they may be private, on every port: `APP_OUTBOUND_ALLOW`.
        allow: Vec<IpNet>,
        /// Further ports on global addresses: `APP_OUTBOUND_PORTS`.
        ports: Vec<u16>,
    },
    /// This host and port, wherever its name leads, and nothing else.
    Exactly {
        /// As in the operator's URL, lower case.
        host: String,
        /// The port, spelled out or the scheme's own.
        port: u16,
    },
}

/// Why a request is not made. All of these are permanent: another attempt would be refused alike.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a URL that can be requested.
    #[error("this is not a URL that can be requested: {0}")]
    Url(&'static str),
    /// Another scheme than http and https.
    #[error("the URL must start with http:// or https://")]
    Scheme,
    /// `user:password@` in the URL.
    #[error("the URL must not hold a user name or password")]
    UserInfo,
    /// A port that the operator has not opened.
    #[error("port {0} is not allowed: only 80 and 443 are, unless the operator sets APP_OUTBOUND_PORTS")]
    Port(u16),
    /// A private, local or reserved address, or a name that leads to nothing else.
    #[error(
        "{0} is or leads to an address that is not public: it is not allowed, unless the operator sets \
         APP_OUTBOUND_ALLOW"
    )]
    Address(String),
    /// Not the one place that an operator's policy names.
    #[error("only the address that the operator has set is allowed here")]
    Elsewhere,
    /// A redirect from https to http.
    #[error("a redirect leads from https to http: it is not followed")]
    Downgrade,
}

impl Refusal {
    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Url(_) | Refusal::Scheme | Refusal::UserInfo => "invalid_url",
            Refusal::Port(_) => "port_not_allowed",
            Refusal::Address(_) | Refusal::Elsewhere => "address_not_allowed",
            Refusal::Downgrade => "insecure_redirect",
        }
    }
}

impl Policy {
    /// The policy for the one address that an operator has set.
    pub fn exactly(url: &Uri) -> Self {
        Policy::Exactly { host: host_of(url).to_owned(), port: port_of(url) }
    }

    /// Whether the URL may be requested, before its name is resolved. A literal address is judged at once.
    pub fn admit_url(&self, url: &Uri) -> Result<(), Refusal> {
        match self {
            Policy::Exactly { host, port } => {
                let same = host_of(url) == host && port_of(url) == *port;
                if same { Ok(()) } else { Err(Refusal::Elsewhere) }
            }
            Policy::Public { .. } => match literal_address(url) {
                Some(address) => self.admit_addresses(url, [SocketAddr::new(address, port_of(url))]).map(drop),
                None => Ok(()),
            },
        }
    }

    /// Of the addresses that a name has resolved to, those that may be connected to; an error when none is left.
    pub fn admit_addresses(
        &self,
        url: &Uri,
        resolved: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Refusal> {
        let Policy::Public { allow, ports } = self else {
            return self.admit_url(url).map(|()| resolved.into_iter().collect());
        };
        let opened = |address: &SocketAddr| allow.iter().any(|network| network.contains(&address.ip()));
        let reachable: Vec<_> =
            resolved.into_iter().filter(|address| opened(address) || is_global(address.ip())).collect();
        if reachable.is_empty() {
            return Err(Refusal::Address(host_of(url).to_owned()));
        }
        let usual = |port: u16| port == 80 || port == 443 || ports.contains(&port);
        let admitted: Vec<_> =
            reachable.into_iter().filter(|address| usual(address.port()) || opened(address)).collect();
        if admitted.is_empty() { Err(Refusal::Port(port_of(url))) } else { Ok(admitted) }
    }
}

/// Reads a URL as a person writes it: spaces around it are no part of it, an international name is spelled in ASCII
/// (RFC 5891), a fragment is left off. Ambiguous spellings (control characters, spaces, backslashes, user names) are
/// refused instead of interpreted.
pub fn parse_url(text: &str) -> Result<Uri, Refusal> {
    let text = text.trim_matches(' ');
    if text.len() > MAX_URL_BYTES {
        return Err(Refusal::Url("it is longer than 8,192 bytes"));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(Refusal::Url(
            "it has a space, a control character or a backslash in it; write them as %20 and so on",
        ));
    }
    let rest = after_prefix(text, "http://").or_else(|| after_prefix(text, "https://")).ok_or(Refusal::Scheme)?;
    if rest.starts_with('/') {
        return Err(Refusal::Url("its host is missing or misspelled"));
    }
    if rest.split(['/', '?', '#']).next().unwrap_or_default().contains('@') {
        return Err(Refusal::UserInfo);
    }
    normalised(Url::parse(text).map_err(|_| Refusal::Url("its host is missing or misspelled"))?)
}

/// Where a `Location` leads (RFC 9110, section 10.2.2), judged like any other URL.
pub fn redirect_target(from: &Uri, location: &[u8]) -> Result<Uri, Refusal> {
    let broken = Refusal::Url("the target of the redirect cannot be read");
    let location = std::str::from_utf8(location).map_err(|_| broken.clone())?;
    let base = Url::parse(&from.to_string()).map_err(|_| broken.clone())?;
    let target = base.join(location).map_err(|_| broken)?;
    if !matches!(target.scheme(), "http" | "https") {
        return Err(Refusal::Scheme);
    }
    if !target.username().is_empty() || target.password().is_some() {
        return Err(Refusal::UserInfo);
    }
    if from.scheme() == Some(&Scheme::HTTPS) && target.scheme() == "http" {
        return Err(Refusal::Downgrade);
    }
    normalised(target)
}

fn after_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix)).map(|_| &text[prefix.len()..])
}

fn normalised(mut url: Url) -> Result<Uri, Refusal> {
    url.set_fragment(None);
    let uri = Uri::try_from(url.as_str()).map_err(|_| Refusal::Url("its host or path is misspelled"))?;
    // Both parsers must see the same host and port, or else one of them could be talked past the other.
    let same = uri.host() == url.host_str()
        && Some(port_of(&uri)) == url.port_or_known_default()
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if !same || host_of(&uri).is_empty() || port_of(&uri) == 0 {
        return Err(Refusal::Url("its host is missing or misspelled"));
    }
    Ok(uri)
}

/// The host, an IPv6 address without its brackets.
pub(super) fn host_of(url: &Uri) -> &str {
    let host = url.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The port, spelled out or the scheme's own.
pub(super) fn port_of(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 })
}

fn literal_address(url: &Uri) -> Option<IpAddr> {
    host_of(url).parse().ok()
}

/// Whether an address belongs to the public internet: the special-purpose registries of IANA (RFC 6890) and their
/// later additions. Reserved space counts as not public.
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let reserved = match address.octets() {
        [0, ..] => true,                                               // this network, RFC 791
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => true,        // private, RFC 1918
        [127, ..] => true,                                             // loopback
        [169, 254, ..] => true,                                        // link-local; clouds keep credentials here
        [100, 64..=127, ..] => true,                                   // carrier-grade NAT, RFC 6598
        [192, 0, 0, _] => true,                                        // protocol assignments, RFC 6890
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => true, // documentation, RFC 5737
        [192, 88, 99, _] => true,                                      // 6to4 relays, RFC 7526
        [198, 18..=19, ..] => true,                                    // benchmarking, RFC 2544
        [224..=255, ..] => true,                                       // multicast, reserved, broadcast
        _ => false,
    };
    !reserved
}

/// Only 2000::/3 is global unicast (RFC 4291). That leaves out loopback, unspecified, mapped and compatible IPv4,
/// NAT64 (64:ff9b::/96 and 64:ff9b:1::/48), discard-only 100::/64, unique local, link-local, site-local, multicast.
fn is_global_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x2001, 0..=0x01ff, ..] => false, // protocol assignments, Teredo (2001::/32) among them, RFC 2928
        [0x2001, 0x0db8, ..] => false,     // documentation, RFC 3849
        [0x2002, ..] => false,             // 6to4: any IPv4 address in disguise, RFC 3056
        [0x3fff, 0..=0x0fff, ..] => false, // documentation, RFC 9637
        [first, ..] => first & 0xe000 == 0x2000,
    }
}
