//! A file server that serves wrong bytes, stops and returns.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    /// By file: after how many bytes to cut the connection, and how often.
    cuts: HashMap<String, (usize, u32)>,
    requests: Vec<String>,
    aliases: HashMap<String, String>,
}

/// Serves from a thread of its own until the process ends.
#[derive(Clone)]
pub struct FaultyServer {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl FaultyServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { url, state }
    }
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.state.lock().unwrap().files.insert(path.to_owned(), bytes);
    }
    pub fn get(&self, path: &str) -> Vec<u8> {
        self.state.lock().unwrap().files[path].clone()
    }
    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().files.remove(path);
    }
    pub fn cut(&self, path: &str, after: usize, times: u32) {
        self.state.lock().unwrap().cuts.insert(path.to_owned(), (after, times));
    }
    /// The URL of a folder in the form of the daemon's proxy: a 256-bit secret instead of the
    /// folder's name.
    pub fn proxy_like(&self, folder: &str) -> String {
        let secret = fleeti_core::canonical::sha256_hex(folder.as_bytes());
        self.state.lock().unwrap().aliases.insert(secret.clone(), folder.to_owned());
        format!("{}/{secret}/", self.url)
    }
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    loop {
        let Some(Ok(first)) = lines.next() else { return };
        let mut start = 0;
        for line in lines.by_ref().map_while(Result::ok) {
            if line.is_empty() {
                break;
            }
            if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                start = range.trim_end_matches('-').parse().unwrap_or(0);
            }
        }
        let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let (body, cut) = {
            let mut state = state.lock().unwrap();
            let path = match path
                .split_once('/')
                .and_then(|(secret, file)| Some((state.aliases.get(secret)?, file)))
            {
                Some((folder, file)) => format!("{folder}/{file}"),
                None => path,
            };
            state.requests.push(path.clone());
            let cut =
                state.cuts.get_mut(&path).filter(|(_, times)| *times > 0).map(|(after, times)| {
                    *times -= 1;
                    *after
                });
            (state.files.get(&path).cloned(), cut)
        };
        let Some(body) = body else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok();
            continue;
        };
        let part = &body[start..];
        let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
        stream
            .write_all(
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", part.len()).as_bytes(),
            )
            .ok();
        match cut {
            Some(after) => {
                stream.write_all(&part[..after.min(part.len())]).ok();
                return;
            }
            None => {
                if stream.write_all(part).is_err() {
                    return;
                }
            }
        }
    }
}
