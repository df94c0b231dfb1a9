//! How the device connects to the server: directly, or through an HTTP proxy that the enrollment
//! record names.
//!
//! The proxy connects and resolves names (CONNECT, RFC 9110, 9.3.6). TLS is between device and
//! server, so the proxy sees only the server's name and the amount of data.

use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;

/// An HTTP proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Host name or address; an IPv6 address in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Proxy {
    /// Parses `http://HOST:PORT`.
    ///
    /// # Errors
    /// For anything else: proxies with TLS or authentication are not supported.
    pub fn parse(url: &str) -> Result<Self> {
        let wanted = || format!("the proxy {url:?} is not http://HOST:PORT");
        let authority = url.strip_prefix("http://").with_context(wanted)?.trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').with_context(wanted)?;
        ensure!(!host.is_empty() && !host.contains(['@', '/', ' ', '?', '#']), wanted());
        ensure!(!host.contains(':') || host.starts_with('['), wanted());
        Ok(Self { host: host.to_owned(), port: port.parse().with_context(wanted)? })
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
    let tunnel = async_http_proxy::http_connect_tokio(&mut stream, host, port).await;
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
