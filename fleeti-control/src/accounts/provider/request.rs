//! The request to sign in at a provider, and the answer that a browser brings back.

use super::discovery::Endpoints;
use super::issuer::Issuer;
use crate::accounts::challenges::{Challenges, Purpose};
use crate::context::Context;
use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::problem::Code;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

/// Maximum length of the query of an answer, bytes.
pub const ANSWER_MAX: usize = 8192;
/// Characters of a provider's error that are shown.
const ERROR_CHARS: usize = 64;

/// A provider, as it is configured and describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its issuer.
    pub issuer: Issuer,
    /// Where it answers.
    pub endpoints: Endpoints,
    /// The id of this server there.
    pub client_id: String,
    /// Scopes beside `openid`, such as `groups`.
    pub scopes: Vec<String>,
    /// Where it sends browsers back to: a fixed address of this server. The answer names no place to
    /// go on to.
    pub redirect_url: String,
}

/// An answer that this server asked for, to this browser.
#[derive(Debug, Clone)]
pub struct Answered {
    pub(super) state: Vec<u8>,
    pub(super) code: Secret,
    pub(super) nonce: Secret,
    pub(super) verifier: Secret,
}

pub(super) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn refused(text: impl Into<String>) -> Error {
    Error::new(Code::Unauthenticated, text)
        .hint("begin again at the sign-in page; if it happens again, tell an administrator")
}

/// What follows from a state and its browser: the nonce of the ID token, and the code verifier of
/// PKCE.
fn secrets(all: &Challenges, state: &[u8], browser: &str) -> Result<(Secret, Secret), Error> {
    let derived =
        |label| all.derived(label, state, browser).map(|bytes| Secret::new(encoded(bytes)));
    Ok((derived("nonce")?, derived("code verifier")?))
}

/// The address to which the browser is sent to sign in. `browser` is a secret of the browser that
/// asks: a cookie of 256 random bits, which comes back with the answer from another site.
///
/// # Errors
/// Never, but for a defect.
pub fn begin(cx: &Context, provider: &Provider, browser: &str) -> Result<String, Error> {
    address(&cx.accounts.challenges, provider, browser, cx.now_s())
}

pub(super) fn address(
    all: &Challenges,
    provider: &Provider,
    browser: &str,
    now_s: u64,
) -> Result<String, Error> {
    let state = all.make(Purpose::Provider, browser, now_s)?;
    let (nonce, verifier) = secrets(all, &state, browser)?;
    let scopes = ["openid"].into_iter().chain(provider.scopes.iter().map(String::as_str));
    let mut url = provider.endpoints.authorization.clone();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &provider.client_id)
        .append_pair("redirect_uri", &provider.redirect_url)
        .append_pair("scope", &scopes.collect::<Vec<_>>().join(" "))
        .append_pair("state", &encoded(&state))
        .append_pair("nonce", nonce.expose())
        .append_pair("code_challenge", &encoded(Sha256::digest(verifier.expose())))
        .append_pair("code_challenge_method", "S256");
    Ok(url.into())
}

/// The parameters of an answer. Others are not read.
#[derive(Default)]
struct Parameters {
    state: Option<String>,
    code: Option<String>,
    issuer: Option<String>,
    error: Option<String>,
}

fn parameters(query: &str) -> Option<Parameters> {
    let mut read = Parameters::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let place = match &*name {
            "state" => &mut read.state,
            "code" => &mut read.code,
            "iss" => &mut read.issuer,
            "error" => &mut read.error,
            _ => continue,
        };
        if place.replace(value.into_owned()).is_some() {
            return None;
        }
    }
    Some(read)
}

/// Checks the answer that a browser brings: the query of the address that the provider sent it to.
///
/// # Errors
/// [`Code::Unauthenticated`]: it is malformed, to no request of this browser, too late, of another
/// provider (RFC 9207), or says that the provider refused.
pub fn answered(
    cx: &Context,
    provider: &Provider,
    browser: &str,
    query: &str,
) -> Result<Answered, Error> {
    checked(&cx.accounts.challenges, provider, (browser, query), cx.now_s())
}

pub(super) fn checked(
    all: &Challenges,
    provider: &Provider,
    (browser, query): (&str, &str),
    now_s: u64,
) -> Result<Answered, Error> {
    let malformed = || refused("the answer of the provider is malformed");
    if query.len() > ANSWER_MAX {
        return Err(malformed());
    }
    let given = parameters(query).ok_or_else(malformed)?;
    let state = given.state.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let state = state.ok_or_else(malformed)?;
    if browser.is_empty() {
        return Err(refused("the answer is of another browser, or cookies are off"));
    }
    all.check(&state, Purpose::Provider, browser, now_s)?;
    let is_issuer = match &given.issuer {
        Some(issuer) => issuer == provider.issuer.as_str(),
        None => !provider.endpoints.names_itself,
    };
    if !is_issuer {
        return Err(refused("the answer is of another provider than the one that was asked"));
    }
    if let Some(error) = given.error {
        let error = Foreign::new(&error, ERROR_CHARS);
        return Err(refused(format!("the provider signs nobody in: {error}")));
    }
    let code = given.code.filter(|code| !code.is_empty()).ok_or_else(malformed)?;
    let (nonce, verifier) = secrets(all, &state, browser)?;
    Ok(Answered { state, code: Secret::new(code), nonce, verifier })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::discovery::tests::{document, read};
    use super::*;
    use crate::accounts::challenges::CHALLENGE_S;
    use std::collections::BTreeMap;

    pub(in super::super) fn provider() -> Provider {
        Provider {
            issuer: "https://id.example.com".parse().unwrap(),
            endpoints: read(&document()).unwrap(),
            client_id: "fleeti & co".into(),
            scopes: vec!["groups".into()],
            redirect_url: "https://fleet.example.com/signin/provider".into(),
        }
    }

    pub(in super::super) fn asked(all: &Challenges, browser: &str) -> BTreeMap<String, String> {
        let address = address(all, &provider(), browser, 1000).unwrap();
        url::Url::parse(&address).unwrap().query_pairs().into_owned().collect()
    }

    fn answer(all: &Challenges, browser: &str, query: &str) -> Result<Answered, Error> {
        checked(all, &provider(), (browser, query), 1000)
    }

    #[test]
    fn a_request_has_a_state_a_nonce_and_a_challenge_of_its_own() {
        let all = Challenges::new();
        let (one, two) = (asked(&all, "browser"), asked(&all, "browser"));
        assert_eq!(one["tenant"], "a", "what the endpoint has stays");
        assert_eq!(
            (one["response_type"].as_str(), one["scope"].as_str()),
            ("code", "openid groups")
        );
        assert_eq!(one["client_id"], "fleeti & co");
        assert_eq!(one["redirect_uri"], "https://fleet.example.com/signin/provider");
        assert_eq!(one["code_challenge_method"], "S256");
        for name in ["state", "nonce", "code_challenge"] {
            assert_ne!(one[name], two[name], "{name}");
        }
        let answered = answer(&all, "browser", &format!("state={}&code=c", one["state"])).unwrap();
        assert_eq!(answered.nonce.expose(), one["nonce"]);
        let verifier = answered.verifier.expose();
        assert!((43..=128).contains(&verifier.len()), "RFC 7636, 4.1");
        assert_eq!(encoded(Sha256::digest(verifier)), one["code_challenge"]);
        assert!(!one.values().any(|value| value.contains(verifier)), "the verifier stays here");
        assert!(!format!("{answered:?}").contains(verifier));
    }

    #[test]
    fn an_answer_is_to_a_request_of_this_browser_this_process_and_these_five_minutes() {
        let all = Challenges::new();
        let query = format!("state={}&code=c", asked(&all, "browser")["state"]);
        assert!(answer(&all, "browser", &query).is_ok());
        assert!(answer(&all, "another", &query).is_err(), "of another browser");
        assert!(answer(&all, "", &query).is_err(), "without a cookie");
        assert!(answer(&Challenges::new(), "browser", &query).is_err(), "restarted");
        let late = |s| checked(&all, &provider(), ("browser", &query), 1000 + s);
        assert!(late(CHALLENGE_S).is_ok());
        assert!(late(CHALLENGE_S + 1).is_err(), "too late");
        // A challenge of a passkey is no state: the attacker may get one for this cookie.
        let passkey = all.make(Purpose::SignIn, "browser", 1000).unwrap();
        let query = format!("state={}&code=c", encoded(passkey));
        assert!(answer(&all, "browser", &query).is_err());
        // An empty cookie is no browser, also where the state was made for it.
        let query = format!("state={}&code=c", asked(&all, "")["state"]);
        assert!(answer(&all, "", &query).is_err());
    }

    #[test]
    fn a_malformed_answer_or_a_parameter_twice_is_refused() {
        let all = Challenges::new();
        let state = asked(&all, "browser")["state"].clone();
        for query in [
            String::new(),
            "code=c".to_owned(),
            format!("state={state}"),
            format!("state={state}&code="),
            format!("state={state}&state={state}&code=c"),
            format!("state={state}&code=c&code=d"),
            format!("state={state}=&code=c"),
            format!("state={state}&code={}", "c".repeat(ANSWER_MAX)),
        ] {
            let refused = answer(&all, "browser", &query).unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated, "{query:.80}");
        }
        // No parameter says where to go on to.
        let query = format!("state={state}&code=c&next=https://attacker.example&redirect_uri=x");
        assert!(answer(&all, "browser", &query).is_ok());
    }

    /// RFC 9207: the attacker's provider sends the browser back with a code of another one.
    #[test]
    fn an_answer_of_another_provider_is_refused() {
        let all = Challenges::new();
        let state = asked(&all, "browser")["state"].clone();
        let mut strict = provider();
        strict.endpoints.names_itself = true;
        let ask = |provider: &Provider, more: &str| {
            checked(&all, provider, ("browser", &format!("state={state}&code=c{more}")), 1000)
        };
        let right = "&iss=https%3A%2F%2Fid.example.com";
        for wrong in ["&iss=https%3A%2F%2Fattacker.example", "&iss=", &format!("{right}%2F")] {
            assert!(ask(&provider(), wrong).is_err(), "{wrong}");
            assert!(ask(&strict, wrong).is_err(), "{wrong}");
        }
        assert!(ask(&provider(), right).is_ok());
        assert!(ask(&strict, right).is_ok());
        assert!(ask(&provider(), "").is_ok());
        assert!(ask(&strict, "").is_err(), "it said that it names itself");
    }

    #[test]
    fn a_refusal_of_the_provider_is_shown_without_its_control_characters() {
        let all = Challenges::new();
        let state = asked(&all, "browser")["state"].clone();
        let refused = answer(&all, "browser", &format!("state={state}&error=access%0Adenied"));
        let text = refused.unwrap_err().to_string();
        assert_eq!(text, "the provider signs nobody in: access\\ndenied");
        let forged = answer(&all, "browser", "state=AAAA&error=text-of-an-attacker").unwrap_err();
        assert!(!forged.to_string().contains("attacker"), "{forged}");
    }
}
