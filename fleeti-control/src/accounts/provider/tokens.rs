//! The code of an answer becomes a person: the request to the token endpoint, and its answer (OpenID
//! Connect Core 1.0, 3.1.3).

use super::discovery::Authentication;
use super::request::{Answered, Provider, refused};
use crate::accounts::challenges::Challenges;
use crate::context::Context;
use crate::error::Error;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::strict;
use fleeti_core::wire::attestation::Secret;
use fleeti_pki::oidc::{self, Expected, IdToken, KeySet};
use serde::Deserialize;
use url::form_urlencoded::{Serializer, byte_serialize};

/// Maximum size of the answer of the token endpoint, bytes.
pub const TOKENS_MAX: usize = 64 * 1024;

/// A `POST` to the token endpoint.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Where to.
    pub url: String,
    /// The header `Authorization`, if the secret is there.
    pub authorization: Option<Secret>,
    /// The body, `application/x-www-form-urlencoded`.
    pub body: Secret,
}

/// The request that exchanges a code.
#[must_use]
pub fn token_request(provider: &Provider, answered: &Answered, secret: &Secret) -> TokenRequest {
    let mut body = Serializer::new(String::new());
    body.append_pair("grant_type", "authorization_code")
        .append_pair("code", answered.code.expose())
        .append_pair("redirect_uri", &provider.redirect_url)
        .append_pair("code_verifier", answered.verifier.expose());
    let authorization = match provider.endpoints.authentication {
        Authentication::Basic => {
            // RFC 6749, 2.3.1: both are encoded as in a form first.
            let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let both = format!("{}:{}", encode(&provider.client_id), encode(secret.expose()));
            Some(Secret::new(format!("Basic {}", STANDARD.encode(both))))
        }
        Authentication::Post => {
            body.append_pair("client_id", &provider.client_id)
                .append_pair("client_secret", secret.expose());
            None
        }
    };
    let url = provider.endpoints.token.as_str().to_owned();
    TokenRequest { url, authorization, body: Secret::new(body.finish()) }
}

/// The answer of the token endpoint. Fields that are not here are not used.
#[derive(Deserialize)]
struct Tokens {
    access_token: Secret,
    token_type: String,
    id_token: Secret,
}

/// The answer is an object. serde alone reads a list for it, too.
#[derive(Deserialize)]
#[serde(transparent)]
struct Object(#[serde(deserialize_with = "strict::object")] Tokens);

/// Who has signed in: verifies the answer of the token endpoint with the keys of the provider. Each
/// request to sign in leads to at most one person, once.
///
/// # Errors
/// [`Code::Unauthenticated`](fleeti_core::wire::problem::Code::Unauthenticated) for an answer that is
/// not accepted, or the second time; [`Code::TooMany`](fleeti_core::wire::problem::Code::TooMany) for a
/// person who signs in too often.
pub fn identity(
    cx: &Context,
    provider: &Provider,
    answered: &Answered,
    (keys, json): (&KeySet, &[u8]),
) -> Result<IdToken, Error> {
    verified(&cx.accounts.challenges, provider, answered, (keys, json), cx.now_s())
}

pub(super) fn verified(
    all: &Challenges,
    provider: &Provider,
    answered: &Answered,
    (keys, json): (&KeySet, &[u8]),
    now_s: u64,
) -> Result<IdToken, Error> {
    let malformed = || refused("the tokens of the provider are malformed");
    if json.len() > TOKENS_MAX {
        return Err(malformed());
    }
    let Object(tokens) = serde_json::from_slice(json).map_err(|_| malformed())?;
    if !tokens.token_type.eq_ignore_ascii_case("bearer") {
        return Err(malformed());
    }
    let expected = Expected {
        issuer: provider.issuer.as_str(),
        client_id: &provider.client_id,
        nonce: answered.nonce.expose(),
        access_token: tokens.access_token.expose(),
        now_s,
    };
    let token = oidc::verify(tokens.id_token.expose(), keys, &expected);
    let token = token.map_err(|e| refused(e.to_string()))?;
    let person = format!("{} of {}", token.subject(), provider.issuer);
    all.spend(&answered.state, &person, now_s)?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::{asked, provider};
    use super::super::request::{checked, encoded};
    use super::*;
    use fleeti_core::wire::problem::Code;
    use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    const NOW_S: u64 = 1000;

    fn request(all: &Challenges) -> (BTreeMap<String, String>, Answered) {
        let asked = asked(all, "browser");
        let query = format!("state={}&code=a%26b", asked["state"]);
        let answered = checked(all, &provider(), ("browser", &query), NOW_S).unwrap();
        (asked, answered)
    }

    #[test]
    fn a_code_is_exchanged_with_its_verifier_and_the_secret_of_the_client() {
        let (_, answered) = request(&Challenges::new());
        let secret = Secret::new("s:e&c".into());
        let sent = token_request(&provider(), &answered, &secret);
        assert_eq!(sent.url, "https://id.example.com/token");
        let basic = STANDARD.encode("fleeti+%26+co:s%3Ae%26c");
        assert_eq!(sent.authorization.as_ref().unwrap().expose(), format!("Basic {basic}"));
        let verifier = answered.verifier.expose();
        let body = format!(
            "grant_type=authorization_code&code=a%26b&redirect_uri=https%3A%2F%2Ffleet.example.com%2Fsignin%2Fprovider&code_verifier={verifier}"
        );
        assert_eq!(sent.body.expose(), body);
        assert!(!format!("{sent:?}").contains(verifier), "no log shows it");
        let mut post = provider();
        post.endpoints.authentication = Authentication::Post;
        let sent = token_request(&post, &answered, &secret);
        assert!(sent.authorization.is_none());
        let more = "&client_id=fleeti+%26+co&client_secret=s%3Ae%26c";
        assert_eq!(sent.body.expose(), format!("{body}{more}"));
    }

    #[test]
    fn a_request_to_sign_in_leads_to_one_person_once() {
        let all = Challenges::new();
        let key = Key::new();
        let (asked, answered) = request(&all);
        let json = key.tokens(&asked["nonce"], "alice");
        let who = |answered: &Answered, json: &Value| {
            let json = json.to_string();
            verified(&all, &provider(), answered, (&key.set(), json.as_bytes()), NOW_S)
        };
        // The token of another request: a code that an attacker injects.
        let (_, other) = request(&all);
        assert!(who(&other, &json).unwrap_err().to_string().contains("another request"));
        assert_eq!(who(&answered, &json).unwrap().subject(), "alice");
        let again = who(&answered, &json).unwrap_err();
        assert_eq!(again.code(), Code::Unauthenticated, "a state counts once");
        let bob = key.tokens(&asked["nonce"], "bob");
        assert!(who(&answered, &bob).is_err(), "also for another person");
    }

    #[test]
    fn tokens_that_are_malformed_or_of_another_type_are_refused() {
        let all = Challenges::new();
        let key = Key::new();
        let (asked, answered) = request(&all);
        let right = key.tokens(&asked["nonce"], "alice");
        let who = |json: &str| {
            verified(&all, &provider(), &answered, (&key.set(), json.as_bytes()), NOW_S)
        };
        for (name, value) in [
            ("token_type", json!("DPoP")),
            ("token_type", json!(null)),
            ("id_token", json!("")),
            ("id_token", json!(null)),
            ("access_token", json!(null)),
            ("more", json!("a".repeat(TOKENS_MAX))),
        ] {
            let mut changed = right.clone();
            changed[name] = value;
            let refused = who(&changed.to_string()).unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated, "{name}");
        }
        let twice = right.to_string().replacen('{', r#"{"id_token":"a.b.c","#, 1);
        assert!(who(&twice).is_err(), "a field twice");
        assert!(who("").is_err());
        let list = json!([right["access_token"], right["token_type"], right["id_token"]]);
        assert!(who(&list.to_string()).is_err(), "a list");
        assert!(who(&right.to_string()).is_ok());
    }

    struct Key(SoftKey);

    impl Key {
        fn new() -> Self {
            Self(SoftKey::generate(Algorithm::Ed25519).unwrap())
        }

        fn set(&self) -> KeySet {
            let der = self.0.public_key_der();
            let x = encoded(&der[der.len() - 32..]);
            let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x }] });
            KeySet::read(keys.to_string().as_bytes()).unwrap()
        }

        /// What the token endpoint says of a person.
        fn tokens(&self, nonce: &str, person: &str) -> Value {
            let claims = json!({
                "iss": "https://id.example.com", "aud": "fleeti & co", "sub": person,
                "exp": NOW_S + 60, "iat": NOW_S, "nonce": nonce,
            });
            let header = encoded(json!({ "alg": "EdDSA", "kid": "k" }).to_string());
            let signed = format!("{header}.{}", encoded(claims.to_string()));
            let signature = encoded(self.0.sign(signed.as_bytes()).unwrap());
            let token = format!("{signed}.{signature}");
            json!({ "access_token": "a", "token_type": "Bearer", "id_token": token })
        }
    }
}
