//! One connection to the relay (RFC 5321).

use super::stream::Bounded;
use super::trust::Trust;
use super::{letter, starttls};
use fleeti_control::email::{Answer, Outgoing};
use fleeti_control::email_relay::{EmailRelay, EmailTls, Login};
use fleeti_core::wire::email::EmailAddress;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use rustls_pki_types::ServerName;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time to connect, encrypt and log in.
pub(super) const OPEN: Duration = Duration::from_secs(10);
/// Time for one e-mail.
pub(super) const SEND: Duration = Duration::from_secs(15);
/// Time for the goodbye.
const QUIT: Duration = Duration::from_secs(1);
/// What the library reads before it says EHLO once more, after STARTTLS: the relay greets once.
const GREETING: &[u8] = b"220 encrypted\r\n";

/// A connection that is ready for e-mails.
pub(super) struct Session(AsyncSmtpConnection);

impl Session {
    /// Connects, encrypts as it is configured, and logs in.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn open(relay: &EmailRelay, trust: &Trust) -> Result<Self, String> {
        match timeout(OPEN, connect(relay, trust)).await {
            Ok(Ok(connection)) => Ok(Self(connection)),
            Ok(Err(why)) => Err(format!("{relay}: {why}")),
            Err(_) => Err(format!("{relay}: no answer within {} seconds", OPEN.as_secs())),
        }
    }

    /// Sends one e-mail.
    pub(super) async fn send(&mut self, from: &EmailAddress, outgoing: &Outgoing) -> Answer {
        match timeout(SEND, self.exchange(from, outgoing)).await {
            Ok(answer) => answer,
            Err(_) => Answer::Failed(format!("no answer within {} seconds", SEND.as_secs())),
        }
    }

    async fn exchange(&mut self, from: &EmailAddress, outgoing: &Outgoing) -> Answer {
        let made = letter::address(from)
            .and_then(|from| Ok((from, letter::address(&outgoing.to)?)))
            .and_then(|(sender, to)| Ok((sender, to, letter::bytes(from, outgoing)?)));
        let (sender, to, bytes) = match made {
            Ok(made) => made,
            Err(why) => return Answer::Failed(why),
        };
        // What is wrong with the sender is wrong with the configuration, which an operator changes.
        if let Err(e) = self.0.command(Mail::new(Some(sender), vec![])).await {
            return Answer::Failed(e.to_string());
        }
        if let Err(e) = self.0.command(Rcpt::new(to, vec![])).await {
            return refused(&e);
        }
        if let Err(e) = self.0.command(Data).await {
            return refused(&e);
        }
        match self.0.message(&bytes).await {
            Ok(response) => Answer::Accepted(said(&response)),
            Err(e) => refused(&e),
        }
    }

    /// Says goodbye.
    pub(super) async fn quit(mut self) {
        timeout(QUIT, self.0.quit()).await.ok();
    }
}

fn refused(e: &Error) -> Answer {
    let text = e.to_string();
    if e.is_permanent() { Answer::Refused(text) } else { Answer::Failed(text) }
}

fn said(response: &Response) -> String {
    format!("{} {}", response.code(), response.first_line().unwrap_or_default())
}

async fn connect(relay: &EmailRelay, trust: &Trust) -> Result<AsyncSmtpConnection, String> {
    let stream = TcpStream::connect((relay.host.as_str(), relay.port));
    let mut stream = stream.await.map_err(|e| e.to_string())?;
    let peer = stream.peer_addr().map_err(|e| e.to_string())?;
    let hello = match stream.local_addr().map_err(|e| e.to_string())?.ip() {
        IpAddr::V4(ip) => ClientId::Ipv4(ip),
        IpAddr::V6(ip) => ClientId::Ipv6(ip),
    };
    let stream: Box<dyn AsyncTokioStream> = match relay.tls {
        // A name says nothing about where it leads.
        EmailTls::None if !peer.ip().is_loopback() => {
            return Err("is another machine, so nothing was sent without TLS".to_owned());
        }
        EmailTls::None => Box::new(Bounded::new(stream, peer, b"")),
        EmailTls::Implicit => {
            Box::new(Bounded::new(encrypt(stream, relay, trust).await?, peer, b""))
        }
        EmailTls::Starttls => {
            starttls::ask(&mut stream, &hello).await?;
            Box::new(Bounded::new(encrypt(stream, relay, trust).await?, peer, GREETING))
        }
    };
    let connection = AsyncSmtpConnection::connect_with_transport(stream, &hello).await;
    let mut connection = connection.map_err(|e| e.to_string())?;
    if let Some(login) = &relay.login {
        log_in(&mut connection, login).await?;
    }
    Ok(connection)
}

async fn encrypt(
    stream: TcpStream,
    relay: &EmailRelay,
    trust: &Trust,
) -> Result<TlsStream<TcpStream>, String> {
    let config = trust.as_ref().ok_or("no TLS is configured")?;
    let name = ServerName::try_from(relay.host.clone()).map_err(|e| e.to_string())?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    stream.map_err(|e| format!("TLS: {e}"))
}

/// Logs in. An error has nothing of what the relay said but its code: a relay that repeats what it
/// got would write the password into the log.
async fn log_in(connection: &mut AsyncSmtpConnection, login: &Login) -> Result<(), String> {
    let password = login.password().map_err(|e| e.to_string())?;
    let credentials = Credentials::new(login.user.clone(), password);
    let mechanisms = [Mechanism::Plain, Mechanism::Login];
    let result = connection.auth(&mechanisms, &credentials).await;
    result.map(drop).map_err(|e| match e.status() {
        Some(code) => format!("the relay refused the user name or password ({code})"),
        None if e.is_client() => "the relay offers neither AUTH PLAIN nor AUTH LOGIN".to_owned(),
        None => "the connection ended while logging in".to_owned(),
    })
}
