//! How the device connects to the server: directly, or through an HTTP proxy that the enrollment
//! record names.
//!
//! The proxy connects and resolves names (CONNECT, RFC 9110, 9.3.6). TLS is between device and
//! server, so the proxy sees only the server's name and the amount of data.

use anyhow::{Context, Result, ensure};
use async_http_proxy::{http_connect_tokio, http_connect_tokio_with_basic_auth};
use tokio::net::TcpStream;

/// An HTTP proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Host name or address; an IPv6 address in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What the proxy asks for, if the device has it.
    pub credential: Option<Credential>,
}

/// User and password for a proxy (RFC 7617).
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The user; without a colon.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

impl Credential {
    /// Parses `USER:PASSWORD`; a line end at the end does not count.
    ///
    /// # Errors
    /// For anything else. The error does not repeat the text.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).ok().map(|t| t.trim_end_matches(['\r', '\n']));
        let parts =
            text.filter(|t| !t.chars().any(char::is_control)).and_then(|t| t.split_once(':'));
        let (user, password) =
            parts.context("the secret for the proxy is not one line USER:PASSWORD")?;
        Ok(Self { user: user.to_owned(), password: password.to_owned() })
    }
}

impl Proxy {
    /// Parses `http://HOST:PORT`.
    ///
    /// # Errors
    /// For anything else: proxies with TLS are not supported, and a password is a secret of the boot.
    pub fn parse(url: &str) -> Result<Self> {
        let wanted = || format!("the proxy {url:?} is not http://HOST:PORT");
        let authority = url.strip_prefix("http://").with_context(wanted)?.trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').with_context(wanted)?;
        ensure!(!host.is_empty() && !host.contains(['@', '/', ' ', '?', '#']), wanted());
        ensure!(!host.contains(':') || host.starts_with('['), wanted());
        let port = port.parse().with_context(wanted)?;
        Ok(Self { host: host.to_owned(), port, credential: None })
    }

    /// As in `http://proxy.example:3128`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }
}

/// Host and port of `https://HOST[:PORT]`; an IPv6 address keeps its brackets.
///
/// # Errors
/// If it is not such a URL.
pub fn authority(url: &str) -> Result<(String, u16)> {
    let authority = url.strip_prefix("https://").context("the server's URL is not https")?;
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            Ok((host.to_owned(), port.parse().context("the server's port")?))
        }
        _ => Ok((authority.to_owned(), 443)),
    }
}

/// A TCP connection to a host and port.
///
/// # Errors
/// If the host or the proxy is unreachable, or the proxy refuses.
pub async fn connect(host: &str, port: u16, proxy: Option<&Proxy>) -> Result<TcpStream> {
    let Some(proxy) = proxy else {
        let address = format!("{host}:{port}");
        return TcpStream::connect(&address).await.with_context(|| address);
    };
    let address = format!("{}:{}", proxy.host, proxy.port);
    let mut stream =
        TcpStream::connect(&address).await.with_context(|| format!("the proxy {address}"))?;
    let tunnel = match &proxy.credential {
        None => http_connect_tokio(&mut stream, host, port).await,
        Some(Credential { user, password }) => {
            http_connect_tokio_with_basic_auth(&mut stream, host, port, user, password).await
        }
    };
    tunnel.with_context(|| format!("the proxy {address} did not connect to {host}:{port}"))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_host_and_a_port_and_nothing_else() {
        let read = Proxy::parse("http://proxy.example:3128/").unwrap();
        assert_eq!(
            (read.host.as_str(), read.port, read.url().as_str()),
            ("proxy.example", 3128, "http://proxy.example:3128")
        );
        assert_eq!(Proxy::parse("http://[::1]:8080").unwrap().host, "[::1]");
        for bad in [
            "",
            "proxy:1",
            "https://p:1",
            "http://p",
            "http://:1",
            "http://u:s@p:1",
            "http://p:1/x",
            "http://p:99999",
            "http://a b:1",
            "http://::1",
        ] {
            assert!(Proxy::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_for_the_proxy_is_one_line_and_in_no_log() {
        let read = Credential::parse(b"device:a:b c\n").unwrap();
        assert_eq!((read.user.as_str(), read.password.as_str()), ("device", "a:b c"));
        assert!(!format!("{read:?}").contains("a:b"));
        for bad in [&b""[..], b"s3cret", b"user:s3cret\r\nHost: x", b"user:\xff"] {
            let error = Credential::parse(bad).unwrap_err().to_string();
            assert!(error.contains("USER:PASSWORD") && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_url_without_a_port_means_443() {
        for (url, expected) in [
            ("https://a", ("a", 443)),
            ("https://a:8443", ("a", 8443)),
            ("https://[::1]", ("[::1]", 443)),
            ("https://[::1]:1", ("[::1]", 1)),
        ] {
            assert_eq!(authority(url).unwrap(), (expected.0.to_owned(), expected.1));
        }
        assert!(authority("http://a").is_err() && authority("https://a:b").is_err());
    }
}
