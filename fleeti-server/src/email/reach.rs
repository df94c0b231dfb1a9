//! The way to a relay: its addresses, one after the other.

use fleeti_control::email_relay::{EmailRelay, EmailTls};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// Time for one address.
const ADDRESS: Duration = Duration::from_secs(5);
/// Maximum number of addresses that are tried.
const ADDRESSES: usize = 5;

/// Connects to the first address of a relay that answers.
///
/// # Errors
/// In words, with each address.
pub(super) async fn reach(relay: &EmailRelay) -> Result<TcpStream, String> {
    let found = lookup_host((relay.host.as_str(), relay.port)).await;
    let addresses: Vec<_> = found.map_err(|e| e.to_string())?.take(ADDRESSES).collect();
    first_of(&addresses, relay.tls).await
}

async fn first_of(addresses: &[SocketAddr], tls: EmailTls) -> Result<TcpStream, String> {
    let mut failed = Vec::new();
    for address in addresses {
        // A name says nothing about where it leads.
        if tls == EmailTls::None && !address.ip().is_loopback() {
            failed.push(format!("{address} is another machine, so nothing was sent without TLS"));
            continue;
        }
        match timeout(ADDRESS, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => failed.push(format!("{address}: {e}")),
            Err(_) => {
                failed.push(format!("{address}: no answer within {} seconds", ADDRESS.as_secs()));
            }
        }
    }
    Err(if failed.is_empty() { "has no address".to_owned() } else { failed.join("; ") })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[actix_web::test]
    async fn an_address_that_answers_counts_and_errors_name_each() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (open, closed) = (listener.local_addr().unwrap(), ([127, 0, 0, 1], 1).into());
        let other = ([192, 0, 2, 1], 25).into();
        let stream = first_of(&[closed, other, open], EmailTls::None).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        let refused = first_of(&[other, closed], EmailTls::None).await.unwrap_err();
        assert!(refused.contains("192.0.2.1:25 is another machine"), "{refused}");
        assert!(refused.contains("127.0.0.1:1: "), "{refused}");
        assert_eq!(first_of(&[], EmailTls::Implicit).await.unwrap_err(), "has no address");
    }
}
