//! One connection to the relay (RFC 5321).

use super::reach::reach;
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
use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time to connect, encrypt and log in.
const OPEN: Duration = Duration::from_secs(30);
/// Time for the answer to a command. A relay may ask others about a receiver.
const COMMAND: Duration = Duration::from_secs(30);
/// Time for the text and the answer to it. A relay scans a text before it answers, and one that is not
/// waited for sends the e-mail nevertheless.
const TEXT: Duration = Duration::from_secs(120);
/// Longest time of an attempt: the connection, three commands, and the text.
pub(super) const ATTEMPT: Duration =
    Duration::from_secs(OPEN.as_secs() + 3 * COMMAND.as_secs() + TEXT.as_secs());
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
        match self.exchange(from, outgoing).await {
            Ok(answer) | Err(answer) => answer,
        }
    }

    /// As [`Self::send`]. An error is an answer too.
    async fn exchange(
        &mut self,
        from: &EmailAddress,
        outgoing: &Outgoing,
    ) -> Result<Answer, Answer> {
        let sender = letter::address(from).map_err(Answer::Failed)?;
        let to = letter::address(&outgoing.to).map_err(Answer::Failed)?;
        let bytes = letter::bytes(from, outgoing).map_err(Answer::Failed)?;
        // What is wrong with the sender is wrong with the configuration, which an operator changes.
        let mail = self.0.command(Mail::new(Some(sender), vec![]));
        within(COMMAND, mail).await?.map_err(|e| Answer::Failed(e.to_string()))?;
        let receiver = self.0.command(Rcpt::new(to, vec![]));
        within(COMMAND, receiver).await?.map_err(|e| refused(&e, true))?;
        within(COMMAND, self.0.command(Data)).await?.map_err(|e| refused(&e, false))?;
        let response = within(TEXT, self.0.message(&bytes)).await?;
        response.map(|response| Answer::Accepted(said(&response))).map_err(|e| refused(&e, false))
    }

    /// Says goodbye.
    pub(super) async fn quit(mut self) {
        timeout(QUIT, self.0.quit()).await.ok();
    }
}

/// Waits for a relay for a time.
async fn within<T>(time: Duration, step: impl Future<Output = T>) -> Result<T, Answer> {
    let late = |_| Answer::Failed(format!("no answer within {} seconds", time.as_secs()));
    timeout(time, step).await.map_err(late)
}

fn refused(e: &Error, is_of_receiver: bool) -> Answer {
    let (text, said) = (e.to_string(), e.source().map(ToString::to_string).unwrap_or_default());
    match e.status().map(u16::from) {
        Some(code) if is_final(code, &said, is_of_receiver) => Answer::Refused(text),
        Some(_) | None => Answer::Failed(text),
    }
}

/// Status codes (RFC 3463) of mailboxes that are not there, are closed or take no mail, and of texts
/// that are too long: nothing but another receiver helps.
const FINAL: [&str; 6] = ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.2.1", "5.3.4"];

/// Whether it is of no use to ask again. A relay also refuses by 5yz what its operator, or the one of
/// the server, repairs: a login that ended, a sender on a list, a policy.
fn is_final(code: u16, said: &str, is_of_receiver: bool) -> bool {
    let first = said.split_whitespace().next().unwrap_or_default();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if first.split('.').count() == 3 && first.split('.').all(is_number) {
        return (500..600).contains(&code) && FINAL.contains(&first);
    }
    is_of_receiver && matches!(code, 550 | 551)
}

fn said(response: &Response) -> String {
    format!("{} {}", response.code(), response.first_line().unwrap_or_default())
}

async fn connect(relay: &EmailRelay, trust: &Trust) -> Result<AsyncSmtpConnection, String> {
    let mut stream = reach(relay).await?;
    let peer = stream.peer_addr().map_err(|e| e.to_string())?;
    let hello = match stream.local_addr().map_err(|e| e.to_string())?.ip() {
        IpAddr::V4(ip) => ClientId::Ipv4(ip),
        IpAddr::V6(ip) => ClientId::Ipv6(ip),
    };
    let stream: Box<dyn AsyncTokioStream> = match relay.tls {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_repair_helps_is_final() {
        for (code, said, is_of_receiver, expected) in [
            (550, "5.1.1 no such receiver", true, true),
            (550, "5.1.1\nno such receiver", true, true),
            (553, "5.1.3 bad address", true, true),
            (550, "5.2.1 mailbox disabled", false, true),
            (552, "5.3.4 too long", false, true),
            (550, "no such receiver", true, true),
            (551, "", true, true),
            (550, "no", false, false),
            (552, "mailbox full", true, false),
            (554, "5.7.1 relay access denied", true, false),
            (550, "5.7.60 may not send as this sender", false, false),
            (550, "5.7.1 blocked", true, false),
            (530, "5.7.0 log in first", true, false),
            (535, "5.7.8 login ended", true, false),
            (503, "5.5.1 wrong order", false, false),
            (554, "no", false, false),
            (450, "5.1.1 greylisted", true, false),
        ] {
            assert_eq!(is_final(code, said, is_of_receiver), expected, "{code} {said}");
        }
    }
}
