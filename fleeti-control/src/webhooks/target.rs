//! Where a webhook may be sent. The server resolves names with [`may_reach`], so that a name cannot
//! lead it to an address inside its own network.

use crate::error::Error;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::webhook::URL_MAX;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Code::Invalid, format!("url: {}", text.into()))
}

/// Checks the URL of a webhook. Names are resolved when something is sent.
///
/// # Errors
/// [`Code::Invalid`].
pub fn check(text: &str, private: bool) -> Result<Url, Error> {
    if text.len() > URL_MAX {
        return Err(invalid(format!("has {} bytes, at most {URL_MAX} are allowed", text.len())));
    }
    let url = Url::parse(text).map_err(|e| invalid(e.to_string()))?;
    let host = url.host().ok_or_else(|| invalid("has no host"))?;
    let address = match host {
        Host::Ipv4(ip) => Some(IpAddr::from(ip)),
        Host::Ipv6(ip) => Some(IpAddr::from(ip)),
        Host::Domain(_) => None,
    };
    let is_local = match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(_) | Host::Ipv6(_) => address.is_some_and(|ip| ip.is_loopback()),
    };
    let is_plain = url.scheme() == "http" && is_local && private;
    if url.scheme() != "https" && !is_plain {
        return Err(invalid(format!("{} is not https", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("must have no user and password: receivers check the signature"));
    }
    if address.is_some_and(|ip| !may_reach(ip, private)) || is_local && !private {
        return Err(invalid("is a private address")
            .hint("fleeti-server --private-webhooks permits private addresses"));
    }
    Ok(url)
}

/// Whether a webhook may be sent to an address.
#[must_use]
pub fn may_reach(address: IpAddr, private: bool) -> bool {
    private || is_public(address)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// RFC 6890 and its registry: everything that is not globally reachable.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_special = matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (169, 254, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (100, 64..128, _)
            | (172, 16..32, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224.., ..)
    );
    !is_special
}

/// Only global unicast (2000::/3), without addresses that contain an IPv4 address or are special.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    if let [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] = [a, b, c, d, e, f] {
        let ([x, y], [z, w]) = (g.to_be_bytes(), h.to_be_bytes());
        return is_public_v4(Ipv4Addr::new(x, y, z, w));
    }
    let is_special = matches!((a, b), (0x2001, 0..0x200 | 0xdb8) | (0x2002 | 0x3fff, _));
    a & 0xe000 == 0x2000 && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_reached() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "::7f00:1",
        ] {
            let ip: IpAddr = private.parse().unwrap();
            assert!(!may_reach(ip, false), "{private}");
            assert!(may_reach(ip, true), "{private}");
        }
        for public in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1", "::ffff:1.1.1.1"] {
            assert!(may_reach(public.parse().unwrap(), false), "{public}");
        }
    }

    #[test]
    fn a_url_that_leads_inside_or_is_not_encrypted_is_refused() {
        for (text, says) in [
            ("http://ops.example/in", "http is not https"),
            ("ftp://ops.example/in", "ftp is not https"),
            ("https://alice:pw@ops.example/in", "no user and password"),
            ("https://127.0.0.1/in", "private address"),
            ("https://2130706433/in", "private address"),
            ("https://0x7f.1/in", "private address"),
            ("https://[::1]/in", "private address"),
            ("https://[::ffff:10.0.0.1]/in", "private address"),
            ("https://localhost/in", "private address"),
            ("http://127.0.0.1:8080/in", "http is not https"),
            ("file:///etc/passwd", "no host"),
            ("nothing", "relative URL"),
            (&format!("https://ops.example/{}", "x".repeat(URL_MAX)), "at most 500"),
        ] {
            let refused = check(text, false).unwrap_err().to_string();
            assert!(refused.contains(says), "{text}: {refused}");
        }
        for text in ["https://ops.example/in?a=b", "https://1.1.1.1:8443/in"] {
            check(text, false).unwrap();
        }
        check("http://127.0.0.1:8080/in", true).unwrap();
        check("https://10.0.0.1/in", true).unwrap();
        assert!(check("http://10.0.0.1/in", true).is_err(), "a private network is not a loopback");
        assert!(check("http://ops.example/in", true).is_err());
    }
}
