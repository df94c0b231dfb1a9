//! The real provider: `oidc-provider` of npm, which `cargo xtask tools` installs.

use super::request::{Answered, address, checked};
use super::tokens::verified;
use super::{Endpoints, Issuer, Provider, token_request};
use crate::accounts::challenges::Challenges;
use crate::error::Error;
use fleeti_core::group_roles::{Ctx, Event, MappedGroup, Mapping, Refused, Roles, step};
use fleeti_core::wire::accounts::{Grant, Role};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::problem::Code;
use fleeti_pki::oidc::{Groups, IdToken, KeySet};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};
use url::Url;

const CLIENT_ID: &str = "fleeti & co";
const SECRET: &str = "a secret: of the client, with & and %";
const REDIRECT_URL: &str = "https://fleet.example.com/signin/provider";
const BROWSER: &str = "the cookie of the browser";

fn now_s() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// One request on one connection, HTTP/1.0.
fn send(method: &str, url: &Url, headers: &[(&str, &str)], body: &str) -> Response {
    let host = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(&host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let path = &url[url::Position::BeforePath..];
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = BufReader::new(stream);
    let mut lines = vec![];
    loop {
        let mut line = String::new();
        answer.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let mut body = vec![];
    answer.read_to_end(&mut body).unwrap();
    let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &String| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_lowercase(), value.to_owned())
    };
    Response { status, headers: lines[1..].iter().map(header).collect(), body }
}

fn get(url: &str) -> Vec<u8> {
    let response = send("GET", &Url::parse(url).unwrap(), &[], "");
    assert_eq!(response.status, 200, "{url}");
    response.body
}

/// The program of the provider, and its open output. It ends with this.
struct Program {
    child: Child,
    _output: BufReader<ChildStdout>,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

struct Real {
    provider: Provider,
    keys: KeySet,
    challenges: Challenges,
    _program: Program,
}

impl Real {
    /// `None` where the tool is not installed, unless its variable says where it is.
    fn start() -> Option<Self> {
        let given = std::env::var_os("FLEETI_OIDC_PROVIDER").map(PathBuf::from);
        let usual = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/oidc"));
        let usual = usual.join("node_modules/oidc-provider").exists().then_some(usual);
        let folder = given.or(usual)?;
        let mut child = Command::new("node")
            .arg(folder.join("provider.mjs"))
            .args([CLIENT_ID, SECRET, REDIRECT_URL])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let issuer: Issuer = line.trim().parse().unwrap();
        let endpoints = Endpoints::read(&issuer, &get(&issuer.discovery_url())).unwrap();
        let keys = KeySet::read(&get(endpoints.keys_url())).unwrap();
        let provider = Provider {
            issuer,
            endpoints,
            client_id: CLIENT_ID.into(),
            scopes: vec!["groups".into()],
            redirect_url: REDIRECT_URL.into(),
        };
        Some(Self {
            provider,
            keys,
            challenges: Challenges::new(),
            _program: Program { child, _output: output },
        })
    }

    /// The query with which the provider sends a browser back after this person has signed in.
    fn sign_in(&self, person: &str) -> String {
        let address = address(&self.challenges, &self.provider, BROWSER, now_s()).unwrap();
        let mut url = Url::parse(&format!("{address}&login_hint={person}")).unwrap();
        let mut cookies = BTreeMap::new();
        for _ in 0..8 {
            let all: Vec<_> =
                cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let response = send("GET", &url, &[("Cookie", &all.join("; "))], "");
            assert_eq!(response.status / 100, 3, "{}", String::from_utf8_lossy(&response.body));
            for (name, value) in &response.headers {
                let cookie = value.split(';').next().and_then(|pair| pair.split_once('='));
                if let ("set-cookie", Some((name, value))) = (name.as_str(), cookie) {
                    cookies.insert(name.to_owned(), value.to_owned());
                }
            }
            let next = response.headers.iter().find(|(name, _)| name == "location").unwrap();
            url = url.join(&next.1).unwrap();
            if url.as_str().starts_with(REDIRECT_URL) {
                return url.query().unwrap().to_owned();
            }
        }
        panic!("the provider sends the browser nowhere");
    }

    fn answered(&self, query: &str) -> Answered {
        checked(&self.challenges, &self.provider, (BROWSER, query), now_s()).unwrap()
    }

    fn exchange(&self, answered: &Answered, secret: &str) -> Response {
        let sent = token_request(&self.provider, answered, &Secret::new(secret.into()));
        let mut headers = vec![("Content-Type", "application/x-www-form-urlencoded")];
        let authorization = sent.authorization.as_ref().map(Secret::expose);
        headers.extend(authorization.map(|value| ("Authorization", value)));
        send("POST", &Url::parse(&sent.url).unwrap(), &headers, sent.body.expose())
    }

    fn identity(&self, answered: &Answered, tokens: &Response) -> Result<IdToken, Error> {
        verified(&self.challenges, &self.provider, answered, (&self.keys, &tokens.body), now_s())
    }

    /// The groups of a person who signs in.
    fn groups(&self, person: &str) -> Groups {
        let answered = self.answered(&self.sign_in(person));
        let token = self.identity(&answered, &self.exchange(&answered, SECRET)).unwrap();
        assert_eq!((token.issuer(), token.subject()), (self.provider.issuer.as_str(), person));
        token.groups("groups")
    }
}

/// Says that the provider is not there, for each test that wants it.
macro_rules! real {
    () => {
        match Real::start() {
            Some(real) => real,
            None => {
                eprintln!("NOT RUN: oidc-provider is missing; install it with `cargo xtask tools`");
                return;
            }
        }
    };
}

#[test]
fn people_of_a_real_provider_sign_in_with_the_roles_of_their_groups() {
    let real = real!();
    assert!(real.provider.endpoints.names_itself, "RFC 9207");
    let operator = Grant { role: Role::Operator, fleet: Some("north".parse().unwrap()) };
    let mapped = MappedGroup { group: "fleet-operators".into(), grant: operator.clone() };
    let mapping = Mapping::new(vec![mapped]).unwrap();
    let sign_in = |groups: Groups| {
        let event = match groups {
            Groups::Listed(groups) => Event::Listed(mapping.roles(&groups)),
            _ => Event::NotListed,
        };
        step(&Roles::default(), &event, Ctx { others_administer: true })
    };
    let (roles, _, is_let_in) = sign_in(real.groups("alice"));
    assert_eq!((roles.all(), is_let_in), ([operator].into(), Ok(())));
    let (roles, _, is_let_in) = sign_in(real.groups("bob"));
    assert_eq!((roles, is_let_in), (Roles::default(), Err(Refused::NoRole)), "no mapped group");
    assert_eq!(real.groups("carol"), Groups::Missing);
    assert_eq!(sign_in(Groups::Missing).2, Err(Refused::NotListed));
}

#[test]
fn a_code_of_a_real_provider_is_used_once_and_for_its_own_request() {
    let real = real!();
    let query = real.sign_in("alice");
    let answered = real.answered(&query);
    let tokens = real.exchange(&answered, SECRET);
    assert!(real.identity(&answered, &tokens).is_ok());
    let again = real.identity(&answered, &tokens).unwrap_err();
    assert_eq!(again.code(), Code::Unauthenticated, "a state counts once");
    assert_eq!(real.exchange(&answered, SECRET).status, 400, "a code counts once");
    // A code that an attacker puts into the answer to another request: PKCE, and the nonce.
    let (stolen, other) = (real.sign_in("alice"), real.answered(&real.sign_in("bob")));
    let injected = Answered { code: real.answered(&stolen).code, ..other.clone() };
    let refused = real.exchange(&injected, SECRET);
    assert_eq!(refused.status, 400);
    assert!(real.identity(&injected, &refused).is_err(), "an error is nobody");
    let stolen = real.answered(&real.sign_in("alice"));
    let tokens = real.exchange(&stolen, SECRET);
    let refused = real.identity(&other, &tokens).unwrap_err();
    assert!(refused.to_string().contains("another request"), "{refused}");
    // Another client.
    let answered = real.answered(&real.sign_in("alice"));
    assert_eq!(real.exchange(&answered, "a wrong secret").status, 401);
    let mut other = real.provider.clone();
    other.client_id = "another".into();
    let right = real.exchange(&answered, SECRET);
    let parts = (&real.keys, right.body.as_slice());
    let refused = verified(&real.challenges, &other, &answered, parts, now_s()).unwrap_err();
    assert!(refused.to_string().contains("another client"), "{refused}");
}
