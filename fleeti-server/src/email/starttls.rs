//! The dialogue before TLS (RFC 3207). Nothing is sent but EHLO and STARTTLS, and nothing that the
//! relay says here counts later. Answers are read byte by byte, so what an attacker on the way adds
//! after the last one is left for the TLS handshake, which fails by it.

use std::fmt::Display;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest answer, bytes.
const ANSWER_MAX: usize = 4096;

/// Asks a relay to begin TLS.
///
/// # Errors
/// In words: it does not offer STARTTLS, refuses it, or answers something else.
pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    hello: &impl Display,
) -> Result<(), String> {
    expect(220, &answer(stream).await?)?;
    let offers = say(stream, &format!("EHLO {hello}\r\n")).await?;
    expect(250, &offers)?;
    let is_starttls =
        |line: &str| line.get(4..).is_some_and(|l| l.eq_ignore_ascii_case("STARTTLS"));
    if !offers.lines().any(is_starttls) {
        return Err("the relay does not offer STARTTLS, so nothing was sent".to_owned());
    }
    expect(220, &say(stream, "STARTTLS\r\n").await?)
}

async fn say<S>(stream: &mut S, command: &str) -> Result<String, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(command.as_bytes()).await.map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    answer(stream).await
}

/// Reads one answer: lines `NNN-TEXT`, and a last one `NNN TEXT`.
async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> Result<String, String> {
    let (mut bytes, mut line) = (Vec::new(), 0);
    while bytes.len() < ANSWER_MAX {
        bytes.push(stream.read_u8().await.map_err(|e| e.to_string())?);
        if !bytes.ends_with(b"\n") {
            continue;
        }
        if bytes.get(line + 3) != Some(&b'-') {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        line = bytes.len();
    }
    Err(format!("the relay answered more than {ANSWER_MAX} bytes"))
}

fn expect(code: u16, answer: &str) -> Result<(), String> {
    let last = answer.lines().last().unwrap_or_default();
    if last.get(..3).and_then(|text| text.parse().ok()) == Some(code) {
        return Ok(());
    }
    Err(format!("the relay answered {last:?} before TLS, expected {code}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    async fn with(relay: &[&[u8]]) -> (Result<(), String>, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        theirs.write_all(&relay.concat()).await.unwrap();
        theirs.shutdown().await.unwrap();
        let asked = ask(&mut ours, &"[127.0.0.1]").await;
        let mut left = Vec::new();
        ours.read_to_end(&mut left).await.unwrap();
        (asked, left)
    }

    #[actix_web::test]
    async fn what_follows_the_last_answer_is_left_for_tls() {
        let injected = b"250-relay\r\n250 AUTH PLAIN\r\n";
        let (asked, left) = with(&[
            b"220 a\r\n",
            b"250-a\r\n250-SIZE 9\r\n250 starttls\r\n",
            b"220 go\r\n",
            injected,
        ])
        .await;
        asked.unwrap();
        assert_eq!(left, injected);
    }

    #[actix_web::test]
    async fn a_relay_without_starttls_is_refused() {
        let long = [b"250-".as_slice(), &[b'x'; ANSWER_MAX]].concat();
        for (relay, says) in [
            (&[b"220 a\r\n".as_slice(), b"250 a\r\n"][..], "does not offer STARTTLS"),
            (&[b"220 a\r\n", b"250-a\r\n250 XSTARTTLS\r\n"], "does not offer STARTTLS"),
            (&[b"220 a\r\n", b"250-a\r\n250 SIZE STARTTLS\r\n"], "does not offer STARTTLS"),
            (&[b"554 no\r\n"], "expected 220"),
            (&[b"220 a\r\n", b"502 no\r\n"], "expected 250"),
            (&[b"220 a\r\n", b"250 STARTTLS\r\n", b"454 later\r\n"], "expected 220"),
            (&[b"220 a\r\n", &long], "more than 4096 bytes"),
            (&[b"220"], "end of file"),
            (&[b"\r\n"], "expected 220"),
            (&[b"\xff\xff\xff\xff\r\n"], "expected 220"),
        ] {
            let refused = with(relay).await.0.unwrap_err();
            assert!(refused.contains(says), "{relay:?}: {refused}");
        }
    }
}
