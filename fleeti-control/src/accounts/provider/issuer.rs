//! The URL of a provider.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use url::{Host, Url};

/// The issuer of ID tokens, as it is configured: `https`, or `http` on the machine itself. It is
/// compared byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    text: String,
    url: Url,
}

/// A text that is no issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no issuer; hint: write the provider's issuer exactly, https://HOST or https://HOST/PATH"
)]
pub struct NoIssuer(String);

/// Whether an address is of the machine itself. One that names no machine leads there, too.
const fn is_own(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

/// Whether a URL points to the machine itself.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.') == "localhost",
        Some(Host::Ipv4(ip)) => is_own(ip.into()),
        Some(Host::Ipv6(ip)) => is_own(ip.to_canonical()),
        None => false,
    }
}

/// Whether a URL has nothing that hides where it leads to.
pub(super) fn is_plain(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
}

impl FromStr for Issuer {
    type Err = NoIssuer;

    fn from_str(text: &str) -> Result<Self, NoIssuer> {
        let refused = || NoIssuer(text.to_owned());
        let url = Url::parse(text).map_err(|_| refused())?;
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        let is_text = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_safe || !is_plain(&url) || url.query().is_some() || !is_text {
            return Err(refused());
        }
        Ok(Self { text: text.to_owned(), url })
    }
}

impl Issuer {
    /// The configured text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where the provider describes itself (OpenID Connect Discovery 1.0, 4).
    #[must_use]
    pub fn discovery_url(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.text.trim_end_matches('/'))
    }

    /// Whether a URL of its document may be used: `https`, or, for a provider on the machine itself,
    /// `http` there. So no provider points the server at programs beside it.
    pub(super) fn may_use(&self, url: &Url) -> bool {
        let is_beside = is_loopback(&self.url) && is_loopback(url) && url.scheme() == "http";
        let is_away = url.scheme() == "https" && (is_loopback(&self.url) || !is_loopback(url));
        (is_beside || is_away) && is_plain(url)
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_https_or_on_the_machine_itself() {
        for (text, discovery) in [
            ("https://id.example.com", "https://id.example.com/.well-known/openid-configuration"),
            ("https://id.example.com/", "https://id.example.com/.well-known/openid-configuration"),
            ("https://id.example/a/b", "https://id.example/a/b/.well-known/openid-configuration"),
            ("http://127.0.0.1:9", "http://127.0.0.1:9/.well-known/openid-configuration"),
            ("http://[::1]:9", "http://[::1]:9/.well-known/openid-configuration"),
            ("http://localhost:9", "http://localhost:9/.well-known/openid-configuration"),
        ] {
            let issuer: Issuer = text.parse().unwrap();
            assert_eq!((issuer.as_str(), issuer.discovery_url().as_str()), (text, discovery));
        }
        for text in [
            "",
            "id.example.com",
            "http://id.example.com",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "https://user@id.example.com",
            "https://id.example.com?realm=a",
            "https://id.example.com#a",
            "https://id.example.com /",
            "ftp://id.example.com",
            "file:///etc/passwd",
        ] {
            assert!(text.parse::<Issuer>().is_err(), "{text}");
        }
    }
}
