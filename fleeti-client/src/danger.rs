//! Options that weaken a client. None of them is a default.

use crate::{ClientError, Result};
use reqwest::Url;

/// Where a token may be sent without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainHttp {
    /// Only to this machine: `localhost`, 127.0.0.0/8, `::1`.
    #[default]
    LoopbackOnly,
    /// Anywhere. Anyone on the network path can read and change the token and the responses.
    Anywhere,
}

/// Whether an address is on this machine and has no TLS. Refuses an address to which the token
/// would cross a network in clear text.
pub(crate) fn check_address(url: &str, plain_http: PlainHttp) -> Result<bool> {
    let parsed = Url::parse(url).map_err(|_| ClientError::Address(url.to_owned()))?;
    match (parsed.scheme(), plain_http) {
        ("https", _) => Ok(false),
        ("http", _) if is_loopback(&parsed) => Ok(true),
        ("http", PlainHttp::Anywhere) => Ok(false),
        ("http", PlainHttp::LoopbackOnly) => Err(ClientError::PlainHttp(url.to_owned())),
        _ => Err(ClientError::Address(url.to_owned())),
    }
}

/// Whether an address is on this machine and has no TLS. Then there is no network path to protect
/// and no key to pin.
#[must_use]
pub fn is_plain_loopback(url: &str) -> bool {
    matches!(check_address(url, PlainHttp::LoopbackOnly), Ok(true))
}

/// By RFC 6761, 6.3, `localhost` and names below it are this machine. Other names depend on the
/// resolver.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    address.map_or_else(
        |_| host == "localhost" || host.ends_with(".localhost"),
        |a| a.to_canonical().is_loopback(),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_token_leaves_this_machine_only_over_tls() {
        for good in [
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://localhost:1",
            "http://LOCALHOST./",
            "http://[::1]:8080",
            "http://[::ffff:127.0.0.1]",
            "http://2130706433/",
            "https://fleeti.example",
            "HTTPS://10.0.0.1",
        ] {
            check_address(good, PlainHttp::LoopbackOnly).unwrap();
        }
        for plain in [
            "http://10.0.2.2:8080",
            "http://fleeti.example",
            "http://0.0.0.0:8080",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://127.0.0.1@fleeti.example",
            "http://[::]:1",
            "http://[2001:db8::1]",
            "HTTP://fleeti.example",
        ] {
            assert!(
                matches!(
                    check_address(plain, PlainHttp::LoopbackOnly),
                    Err(ClientError::PlainHttp(_))
                ),
                "{plain}"
            );
            check_address(plain, PlainHttp::Anywhere).unwrap();
        }
        for none in
            ["", "fleeti.example:8080", "ftp://127.0.0.1", "file:///etc/passwd", "//127.0.0.1"]
        {
            assert!(
                matches!(check_address(none, PlainHttp::Anywhere), Err(ClientError::Address(_))),
                "{none}"
            );
        }
    }
}
