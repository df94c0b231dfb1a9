//! What a provider says of itself (OpenID Connect Discovery 1.0, 3; RFC 8414; RFC 9207, 3).

use super::issuer::Issuer;
use crate::error::Error;
use fleeti_core::strict;
use fleeti_core::wire::problem::Code;
use fleeti_pki::oidc::Algorithm;
use serde::Deserialize;
use url::Url;

/// Maximum size of the document, bytes.
pub const DOCUMENT_MAX: usize = 64 * 1024;

/// How the server proves at the provider which client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// In a header (`client_secret_basic`).
    Basic,
    /// In the body (`client_secret_post`).
    Post,
}

/// The document. Fields that are not here are not used. serde refuses one that occurs twice.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    response_types_supported: Vec<String>,
    id_token_signing_alg_values_supported: Vec<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// The document is an object. serde alone reads a list for it, too.
#[derive(Deserialize)]
#[serde(transparent)]
struct Object(#[serde(deserialize_with = "strict::object")] Document);

/// Where a provider answers, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    pub(super) authorization: Url,
    pub(super) token: Url,
    keys: Url,
    pub(super) authentication: Authentication,
    /// Whether it names itself in each answer (RFC 9207).
    pub(super) names_itself: bool,
}

fn refused(issuer: &Issuer, text: &str) -> Error {
    let text = format!("the provider {issuer}: {text}");
    Error::new(Code::Conflict, text)
        .hint("compare the issuer and the client with what the provider is configured for")
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == wanted)
}

impl Endpoints {
    /// Reads the document of a provider.
    ///
    /// # Errors
    /// [`Code::Conflict`]: it is too long, malformed, of another issuer, or of a provider that lacks
    /// what the server needs. The text says what.
    pub fn read(issuer: &Issuer, json: &[u8]) -> Result<Self, Error> {
        let refused = |text: &str| refused(issuer, text);
        if json.len() > DOCUMENT_MAX {
            return Err(refused("its document is too long"));
        }
        let read: Result<Object, _> = serde_json::from_slice(json);
        let Object(document) =
            read.map_err(|_| refused("its document is malformed or incomplete"))?;
        if document.issuer != issuer.as_str() {
            return Err(refused("its document is of another issuer"));
        }
        let url = |text: &str| {
            let url = Url::parse(text).ok().filter(|url| issuer.may_use(url));
            url.ok_or_else(|| refused("its document has an address that is not https"))
        };
        if !has(&document.response_types_supported, "code") {
            return Err(refused("it does not offer the authorization code flow"));
        }
        let algorithms = &document.id_token_signing_alg_values_supported;
        if !algorithms.iter().any(|name| Algorithm::from_name(name).is_some()) {
            return Err(refused("it signs ID tokens by no algorithm that is accepted"));
        }
        let methods = document.code_challenge_methods_supported.as_deref();
        // Some providers do PKCE and do not say so. One that says how must do S256.
        if methods.is_some_and(|methods| !has(methods, "S256")) {
            return Err(refused("it does not offer PKCE with S256"));
        }
        let methods = document.token_endpoint_auth_methods_supported.as_deref();
        let authentication = match methods {
            None => Authentication::Basic,
            Some(all) if has(all, "client_secret_basic") => Authentication::Basic,
            Some(all) if has(all, "client_secret_post") => Authentication::Post,
            Some(_) => return Err(refused("it accepts no client secret")),
        };
        Ok(Self {
            authorization: url(&document.authorization_endpoint)?,
            token: url(&document.token_endpoint)?,
            keys: url(&document.jwks_uri)?,
            authentication,
            names_itself: document.authorization_response_iss_parameter_supported,
        })
    }

    /// Where its keys are.
    #[must_use]
    pub fn keys_url(&self) -> &str {
        self.keys.as_str()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(in super::super) fn document() -> Value {
        json!({
            "issuer": "https://id.example.com",
            "authorization_endpoint": "https://id.example.com/auth?tenant=a",
            "token_endpoint": "https://id.example.com/token",
            "jwks_uri": "https://keys.example.com/jwks",
            "response_types_supported": ["code", "id_token"],
            "id_token_signing_alg_values_supported": ["RS256", "none"],
        })
    }

    pub(in super::super) fn read(document: &Value) -> Result<Endpoints, Error> {
        Endpoints::read(&"https://id.example.com".parse().unwrap(), document.to_string().as_bytes())
    }

    fn with(name: &str, value: Value) -> Value {
        let mut document = document();
        document[name] = value;
        document
    }

    #[test]
    fn a_provider_says_where_it_answers_and_how() {
        let endpoints = read(&document()).unwrap();
        assert_eq!(endpoints.keys_url(), "https://keys.example.com/jwks");
        assert_eq!(endpoints.authentication, Authentication::Basic);
        assert!(!endpoints.names_itself);
        let methods = "token_endpoint_auth_methods_supported";
        let post = read(&with(methods, json!(["private_key_jwt", "client_secret_post"])));
        assert_eq!(post.unwrap().authentication, Authentication::Post);
        assert!(read(&with("code_challenge_methods_supported", json!(["S256"]))).is_ok());
        let says = "authorization_response_iss_parameter_supported";
        assert!(read(&with(says, json!(true))).unwrap().names_itself);
    }

    #[test]
    fn a_document_of_another_issuer_or_without_what_is_needed_is_refused() {
        for (name, value, text) in [
            ("issuer", json!("https://id.example.com/"), "of another issuer"),
            ("issuer", json!("https://attacker.example"), "of another issuer"),
            ("issuer", json!(null), "malformed or incomplete"),
            ("jwks_uri", json!(null), "malformed or incomplete"),
            ("jwks_uri", json!("http://keys.example.com/jwks"), "not https"),
            ("jwks_uri", json!("http://127.0.0.1/jwks"), "not https"),
            ("jwks_uri", json!("https://localhost/jwks"), "not https"),
            ("jwks_uri", json!("https://localhost./jwks"), "not https"),
            ("jwks_uri", json!("https://[::ffff:127.0.0.1]/jwks"), "not https"),
            ("jwks_uri", json!("https://0.0.0.0/jwks"), "not https"),
            ("jwks_uri", json!("file:///etc/passwd"), "not https"),
            ("token_endpoint", json!("http://id.example.com/token"), "not https"),
            ("token_endpoint", json!("https://a@id.example.com/token"), "not https"),
            ("authorization_endpoint", json!("javascript:alert(1)"), "not https"),
            ("authorization_endpoint", json!("//id.example.com"), "not https"),
            ("response_types_supported", json!(["id_token"]), "authorization code flow"),
            ("id_token_signing_alg_values_supported", json!(["none", "HS256"]), "no algorithm"),
            ("code_challenge_methods_supported", json!(["plain"]), "PKCE"),
            ("token_endpoint_auth_methods_supported", json!(["none"]), "no client secret"),
            ("more", json!("a".repeat(DOCUMENT_MAX)), "too long"),
        ] {
            let refused = read(&with(name, value)).unwrap_err();
            assert_eq!(refused.code(), Code::Conflict);
            assert!(refused.to_string().contains(text), "{name}: {refused}");
        }
        let twice = document().to_string().replacen('{', r#"{"jwks_uri":"https://a.example","#, 1);
        let issuer = "https://id.example.com".parse().unwrap();
        assert!(Endpoints::read(&issuer, twice.as_bytes()).is_err(), "a field twice");
        let list = r#"["https://id.example.com","https://id.example.com/a","https://id.example.com/t",
            "https://id.example.com/k",["code"],["ES256"],null,null,false]"#;
        assert!(Endpoints::read(&issuer, list.as_bytes()).is_err(), "a list");
    }
}
