//! A network that a device gets into with a password: an HTTP proxy that asks for it (RFC 9110,
//! 11.7), and whose connections can be cut.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The user whose password the proxy asks for.
pub const USER: &str = "device";

/// The network; it ends when it is dropped. Every name leads to this host.
pub struct Network {
    /// The address of the proxy.
    pub address: SocketAddr,
    password: Arc<Mutex<Option<String>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    task: JoinHandle<()>,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn held<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network {
    /// A network that accepts everybody.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("the proxy")?;
        let address = listener.local_addr()?;
        let password = Arc::<Mutex<Option<String>>>::default();
        let connections = Arc::<Mutex<JoinSet<()>>>::default();
        let (asked, alive) = (Arc::clone(&password), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let asked = held(&asked).clone();
                let mut alive = held(&alive);
                while alive.try_join_next().is_some() {}
                alive.spawn(async move { serve(stream, asked).await.unwrap_or(()) });
            }
        });
        Ok(Self { address, password, connections, task })
    }

    /// From now on only this password is accepted. Connections that exist go on.
    pub fn accepts(&self, password: &str) {
        *held(&self.password) = Some(password.to_owned());
    }

    /// Ends every connection.
    pub fn cut(&self) {
        held(&self.connections).abort_all();
    }
}

async fn serve(stream: TcpStream, asked: Option<String>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut given) = (String::new(), None);
    stream.read_line(&mut first).await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? <= 2 {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("proxy-authorization") {
            given = value.trim().strip_prefix("Basic ").map(str::to_owned);
        }
    }
    let wanted = asked.map(|password| STANDARD.encode(format!("{USER}:{password}")));
    if wanted.is_some() && given != wanted {
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        return Ok(stream.write_all(refusal).await?);
    }
    let target = first.split(' ').nth(1).and_then(|t| t.rsplit_once(':'));
    let port: u16 = target.context("no CONNECT")?.1.parse()?;
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut server).await?;
    Ok(())
}
