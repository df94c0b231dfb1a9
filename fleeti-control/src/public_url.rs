//! The URL at which people open the pages. Passkeys are tied to it.

use fleeti_pki::webauthn::RelyingParty;
use std::str::FromStr;
use url::{Host, Url};

/// An origin: `https://HOST` or `https://HOST:PORT`, or `http://localhost:PORT` on the machine itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(RelyingParty);

/// A text that is no such URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no public URL; hint: use the form https://HOST or https://HOST:PORT, with a name as the host"
)]
pub struct NoPublicUrl(String);

impl FromStr for PublicUrl {
    type Err = NoPublicUrl;

    fn from_str(text: &str) -> Result<Self, NoPublicUrl> {
        let refused = || NoPublicUrl(text.to_owned());
        let url = Url::parse(text).map_err(|_| refused())?;
        let Some(Host::Domain(host)) = url.host() else { return Err(refused()) };
        let origin = url.origin().ascii_serialization();
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && host == "localhost");
        // Nothing but an origin: no path, query, name or password.
        let is_origin = url.as_str().strip_suffix('/') == Some(origin.as_str());
        if !is_safe || !is_origin || host.ends_with('.') {
            return Err(refused());
        }
        Ok(Self(RelyingParty { id: host.to_owned(), origin }))
    }
}

impl PublicUrl {
    /// The server, as browsers and authenticators know it.
    #[must_use]
    pub fn party(&self) -> &RelyingParty {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_an_origin_that_passkeys_can_be_tied_to() {
        for (text, origin, id) in [
            ("https://fleet.example.com", "https://fleet.example.com", "fleet.example.com"),
            ("https://Fleet.example.com:443/", "https://fleet.example.com", "fleet.example.com"),
            ("https://fleet:8080", "https://fleet:8080", "fleet"),
            ("http://localhost:8080", "http://localhost:8080", "localhost"),
        ] {
            let url: PublicUrl = text.parse().unwrap();
            assert_eq!((url.party().origin.as_str(), url.party().id.as_str()), (origin, id));
        }
        for text in [
            "",
            "fleet.example.com",
            "http://fleet.example.com",
            "http://localhost.example.com",
            "http://127.0.0.1:8080",
            "https://192.0.2.1",
            "https://[2001:db8::1]",
            "https://fleet.example.com/fleeti",
            "https://fleet.example.com?a",
            "https://fleet.example.com#a",
            "https://user@fleet.example.com",
            "https://fleet.example.com.",
            "ftp://fleet.example.com",
        ] {
            assert!(text.parse::<PublicUrl>().is_err(), "{text}");
        }
    }
}
