//! ID tokens that are accepted, and each attack on one of them.

use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleeti_pki::oidc::{
    self, CachedKeys, Expected, Groups, IdToken, KeySet, NotAccepted, REFRESH_EVERY_S,
};
use serde_json::{Value, json};

const ISSUER: &str = "https://id.example.com/realm";
const CLIENT: &str = "fleeti";
const NONCE: &str = "nonce-of-the-request";
const ACCESS: &str = "access-token";
const NOW_S: u64 = 1_800_000_000;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn expected() -> Expected<'static> {
    Expected { issuer: ISSUER, client_id: CLIENT, nonce: NONCE, access_token: ACCESS, now_s: NOW_S }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "248289761001", "aud": CLIENT, "nonce": NONCE,
        "iat": NOW_S, "exp": NOW_S + 300, "groups": ["fleet-admins", "all"],
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut all = claims();
    all[name] = value;
    all
}

fn without(name: &str) -> Value {
    let mut all = claims();
    all.as_object_mut().unwrap().remove(name);
    all
}

/// A key of the provider.
struct Ec(EcdsaKeyPair);

impl Ec {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self, name: &str) -> Value {
        let point = self.0.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": name,
            "x": b64(&point[1..33]), "y": b64(&point[33..]),
        })
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(r#"{"alg":"ES256","typ":"JWT","kid":"k1"}"#, &claims.to_string())
    }
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn verify(key: &Ec, token: &str) -> Result<IdToken, NotAccepted> {
    oidc::verify(token, &set(&[key.jwk("k1")]), &expected())
}

#[test]
fn a_right_id_token_names_a_person_by_issuer_and_subject() {
    let key = Ec::new();
    let hash = b64(&digest(&SHA256, ACCESS.as_bytes()).as_ref()[..16]);
    let right = [
        claims(),
        with("aud", json!([CLIENT])),
        with("azp", json!(CLIENT)),
        with("at_hash", json!(hash)),
        with("nbf", json!(NOW_S)),
        with("iat", json!(NOW_S + oidc::SKEW_S)),
        with("email", json!("alice@example.com")),
    ];
    for claims in right {
        let token = verify(&key, &key.token(&claims)).unwrap();
        assert_eq!((token.issuer(), token.subject()), (ISSUER, "248289761001"));
        let all = ["all".to_owned(), "fleet-admins".to_owned()];
        assert_eq!(token.groups("groups"), Groups::Listed(all.into()));
    }
    let named = verify(&key, &key.token(&with("email", json!("a@example.com")))).unwrap();
    assert_eq!(named.shown("email"), Some("a@example.com"));
}

/// Each claim that is missing or wrong is refused by the check that is for it.
#[test]
fn an_id_token_is_for_this_client_this_request_and_this_time() {
    let key = Ec::new();
    let time = |name, s: u64| (with(name, json!(s)), NotAccepted::Time);
    let mut cases = vec![
        (with("iss", json!("https://other.example.com")), NotAccepted::Issuer),
        (with("iss", json!(format!("{ISSUER}/"))), NotAccepted::Issuer),
        (with("iss", json!([ISSUER])), NotAccepted::Issuer),
        (with("aud", json!("another")), NotAccepted::Audience),
        (with("aud", json!([])), NotAccepted::Audience),
        (with("aud", json!([CLIENT, "another"])), NotAccepted::Audience),
        (with("aud", json!([[CLIENT]])), NotAccepted::Audience),
        (with("azp", json!("another")), NotAccepted::Audience),
        (with("azp", json!(null)), NotAccepted::Audience),
        (with("nonce", json!("another")), NotAccepted::Nonce),
        (with("nonce", json!("")), NotAccepted::Nonce),
        (with("exp", json!("soon")), NotAccepted::Time),
        (with("exp", json!(-1)), NotAccepted::Time),
        (with("nbf", json!("now")), NotAccepted::Time),
        time("exp", NOW_S - oidc::SKEW_S),
        time("exp", 0),
        time("iat", NOW_S + oidc::SKEW_S + 1),
        time("iat", NOW_S - oidc::SKEW_S - oidc::AGE_MAX_S - 1),
        time("nbf", NOW_S + oidc::SKEW_S + 1),
        (with("at_hash", json!("AAAA")), NotAccepted::AccessToken),
        (with("at_hash", json!(null)), NotAccepted::AccessToken),
        (with("sub", json!("")), NotAccepted::Malformed("the ID token")),
        (with("sub", json!(7)), NotAccepted::Malformed("the ID token")),
        (with("sub", json!("a\nb")), NotAccepted::Malformed("the ID token")),
        (with("sub", json!("a".repeat(256))), NotAccepted::Malformed("the ID token")),
    ];
    let missing = [
        ("iss", NotAccepted::Issuer),
        ("aud", NotAccepted::Audience),
        ("nonce", NotAccepted::Nonce),
        ("exp", NotAccepted::Time),
        ("iat", NotAccepted::Time),
        ("sub", NotAccepted::Malformed("the ID token")),
    ];
    cases.extend(missing.map(|(name, error)| (without(name), error)));
    for (claims, error) in cases {
        assert_eq!(verify(&key, &key.token(&claims)), Err(error), "{claims}");
    }
    let expected = Expected { nonce: "", ..expected() };
    let token = key.token(&with("nonce", json!("")));
    let refused = oidc::verify(&token, &set(&[key.jwk("k1")]), &expected);
    assert_eq!(refused, Err(NotAccepted::Nonce), "a request without a nonce");
}

#[test]
fn neither_no_signature_nor_a_mac_by_the_public_key_is_accepted() {
    let key = Ec::new();
    let text = claims().to_string();
    for alg in ["none", "None", "HS256", "HS512", "RS1", "ES256K", ""] {
        let header = json!({ "alg": alg, "kid": "k1" }).to_string();
        let unsigned = format!("{}.{}.", b64(&header), b64(&text));
        assert_eq!(verify(&key, &unsigned), Err(NotAccepted::Algorithm), "{alg}");
        let signed = key.sign(&header, &text);
        assert_eq!(verify(&key, &signed), Err(NotAccepted::Algorithm), "{alg}");
    }
    // The public key as the key of a MAC (CVE-2015-9235 and its like).
    let signed = format!("{}.{}", b64(r#"{"alg":"HS256","kid":"k1"}"#), b64(&text));
    let mac = hmac::Key::new(hmac::HMAC_SHA256, key.0.public_key().as_ref());
    let token = format!("{signed}.{}", b64(hmac::sign(&mac, signed.as_bytes())));
    assert_eq!(verify(&key, &token), Err(NotAccepted::Algorithm));
    assert_eq!(verify(&key, &key.sign("{}", &text)), Err(NotAccepted::Algorithm), "no algorithm");
    let zeros = format!("{}.{}", b64(r#"{"alg":"ES256","kid":"k1"}"#), b64(&text));
    let zeros = format!("{zeros}.{}", b64([0; 64]));
    assert_eq!(verify(&key, &zeros), Err(NotAccepted::Signature), "CVE-2022-21449");
}

#[test]
fn a_key_counts_by_its_name_its_use_and_its_algorithm() {
    let (key, other) = (Ec::new(), Ec::new());
    let token = key.token(&claims());
    let verify = |keys: &[Value]| oidc::verify(&token, &set(keys), &expected());
    assert!(verify(&[other.jwk("k0"), key.jwk("k1")]).is_ok());
    assert_eq!(verify(&[key.jwk("k2")]), Err(NotAccepted::UnknownKey), "rotated");
    assert_eq!(verify(&[other.jwk("k1")]), Err(NotAccepted::Signature), "another key");
    let changed = |name: &str, value: Value| {
        let mut jwk = key.jwk("k1");
        jwk[name] = value;
        verify(&[jwk, other.jwk("k0")])
    };
    let unknown = Err(NotAccepted::UnknownKey);
    assert_eq!(changed("use", json!("enc")), unknown);
    assert_eq!(changed("key_ops", json!(["sign"])), unknown);
    assert_eq!(changed("alg", json!("HS256")), unknown);
    assert_eq!(changed("crv", json!("P-384")), unknown);
    assert_eq!(changed("y", json!(b64([1; 32]))), unknown, "no point of the curve");
    assert_eq!(changed("alg", json!("ES384")), Err(NotAccepted::Algorithm));
    // Without a name: only if there is no choice.
    let unnamed = key.sign(r#"{"alg":"ES256"}"#, &claims().to_string());
    let verify = |keys: &[Value]| oidc::verify(&unnamed, &set(keys), &expected());
    assert!(verify(&[key.jwk("k1")]).is_ok());
    assert_eq!(verify(&[key.jwk("k1"), other.jwk("k2")]), Err(NotAccepted::UnknownKey));
}

/// A key or an address in the header is no key of the provider.
#[test]
fn a_token_brings_no_key_no_type_and_no_extension() {
    let (key, attacker) = (Ec::new(), Ec::new());
    let text = claims().to_string();
    let brought = json!({
        "alg": "ES256", "kid": "k1", "jwk": attacker.jwk("k1"),
        "jku": "https://attacker.example.com/keys", "x5u": "https://attacker.example.com/x",
    });
    let token = attacker.sign(&brought.to_string(), &text);
    assert_eq!(verify(&key, &token), Err(NotAccepted::Signature));
    for header in [
        r#"{"alg":"ES256","kid":"k1","typ":"at+jwt"}"#,
        r#"{"alg":"ES256","kid":"k1","typ":"logout+jwt"}"#,
        r#"{"alg":"ES256","kid":"k1","typ":7}"#,
        r#"{"alg":"ES256","kid":"k1","crit":["b64"],"b64":false}"#,
    ] {
        assert_eq!(verify(&key, &key.sign(header, &text)), Err(NotAccepted::Type), "{header}");
    }
}

#[test]
fn a_token_that_two_readers_may_read_differently_is_refused() {
    let key = Ec::new();
    let malformed = Err(NotAccepted::Malformed("the ID token"));
    let header = r#"{"alg":"ES256","kid":"k1"}"#;
    let text = claims().to_string();
    let twice = text.replacen('{', r#"{"sub":"another","#, 1);
    assert_eq!(verify(&key, &key.sign(header, &twice)), malformed, "a claim twice");
    let header_twice = r#"{"alg":"none","alg":"ES256","kid":"k1"}"#;
    assert_eq!(verify(&key, &key.sign(header_twice, &text)), malformed, "a header twice");
    assert_eq!(verify(&key, &key.sign(header, &format!("{text} {{}}"))), malformed);
    assert_eq!(verify(&key, &key.sign(header, &format!("[{text}]"))), malformed);
    let token = key.token(&claims());
    for changed in [
        String::new(),
        "a.b".to_owned(),
        format!("{token}="),
        format!("{token}.{}", b64("more")),
        format!(" {token}"),
        format!("{token}\n"),
        "a".repeat(oidc::ID_TOKEN_MAX + 1),
    ] {
        assert_eq!(verify(&key, &changed), malformed, "{changed:.20}");
    }
    for (at, _) in token.char_indices() {
        assert!(verify(&key, &token[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn rsa_p384_and_ed25519_keys_verify_too_with_the_hash_of_their_algorithm() {
    let rng = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = rsa.public_key();
    let n = b64(public.modulus().big_endian_without_leading_zero());
    let e = b64(public.exponent().big_endian_without_leading_zero());
    let rsa_jwk = json!({ "kty": "RSA", "kid": "r", "n": n, "e": e });
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let point = p384.public_key().as_ref();
    let (x, y) = (b64(&point[1..49]), b64(&point[49..]));
    let p384_jwk = json!({ "kty": "EC", "crv": "P-384", "kid": "p", "x": x, "y": y });
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed_jwk =
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": "e", "x": b64(ed.public_key().as_ref()) });
    let keys = set(&[rsa_jwk, p384_jwk, ed_jwk]);
    let sign = |alg: &str, message: &[u8]| match alg {
        "ES384" => p384.sign(&rng, message).unwrap().as_ref().to_vec(),
        "EdDSA" => ed.sign(message).as_ref().to_vec(),
        _ => {
            let mut signature = vec![0; rsa.public_modulus_len()];
            let scheme = if alg == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
            rsa.sign(scheme, &rng, message, &mut signature).unwrap();
            signature
        }
    };
    let hashes = [&SHA256, &SHA256, &SHA384, &SHA512];
    let algorithms = [("RS256", "r"), ("PS256", "r"), ("ES384", "p"), ("EdDSA", "e")];
    for ((alg, name), hash) in algorithms.into_iter().zip(hashes) {
        let whole = digest(hash, ACCESS.as_bytes());
        let half = &whole.as_ref()[..whole.as_ref().len() / 2];
        let claims = with("at_hash", json!(b64(half)));
        let header = json!({ "alg": alg, "kid": name });
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let token = format!("{signed}.{}", b64(sign(alg, signed.as_bytes())));
        assert!(oidc::verify(&token, &keys, &expected()).is_ok(), "{alg}");
        let stolen = Expected { access_token: "another", ..expected() };
        let refused = oidc::verify(&token, &keys, &stolen);
        assert_eq!(refused, Err(NotAccepted::AccessToken), "{alg}");
    }
}

#[test]
fn a_list_of_keys_is_bounded_and_names_each_key_once() {
    let key = Ec::new();
    let read = |keys: &[Value]| KeySet::read(json!({ "keys": keys }).to_string().as_bytes());
    let malformed = NotAccepted::Malformed("the list of keys of the provider");
    assert_eq!(read(&[]), Err(malformed.clone()));
    assert_eq!(read(&[key.jwk("a"), key.jwk("a")]), Err(malformed.clone()), "one name twice");
    let symmetric = json!({ "kty": "oct", "k": "AAAA", "kid": "s" });
    assert_eq!(read(std::slice::from_ref(&symmetric)), Err(malformed.clone()));
    assert_eq!(read(&[symmetric, key.jwk("a")]).unwrap().len(), 1, "others are left out");
    let short = json!({ "kty": "RSA", "kid": "r", "n": b64([255; 128]), "e": "AQAB" });
    assert_eq!(read(&[short]), Err(malformed.clone()), "RSA of 1024 bits");
    let many: Vec<_> = (0..=oidc::KEYS_MAX).map(|n| key.jwk(&n.to_string())).collect();
    assert_eq!(read(&many), Err(malformed.clone()), "too many");
    assert_eq!(read(&many[1..]).unwrap().len(), oidc::KEYS_MAX);
    let huge = format!("{{\"keys\":[],\"more\":\"{}\"}}", "a".repeat(oidc::SET_MAX));
    for text in [huge.as_str(), "", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        assert_eq!(KeySet::read(text.as_bytes()), Err(malformed.clone()), "{text:.20}");
    }
}

#[test]
fn tokens_with_unknown_keys_make_the_server_read_keys_once_a_minute() {
    let mut cached = CachedKeys::default();
    assert!(cached.keys(NOW_S).is_none());
    assert!(cached.is_due(NOW_S, false), "an empty cache is due");
    assert!(!cached.is_due(NOW_S, false), "a provider that is away is not asked by every request");
    cached.set(set(&[Ec::new().jwk("k1")]), NOW_S);
    let flood = (0..10_000).filter(|n| cached.is_due(NOW_S + n * 180 / 10_000, true)).count();
    assert_eq!(flood, 2, "three minutes, of which the first has had its attempt");
    let later_s = NOW_S + 180 + REFRESH_EVERY_S;
    assert!(!cached.is_due(later_s, false), "known keys are not read again");
    assert!(cached.is_due(later_s, true));
    assert!(cached.keys(NOW_S + oidc::KEYS_S - 1).is_some());
    assert!(cached.keys(NOW_S + oidc::KEYS_S).is_none(), "what the provider removed ends");
    assert!(cached.is_due(NOW_S + oidc::KEYS_S, false));
}

/// Never an empty list where the provider did not say that there are no groups.
#[test]
fn groups_that_are_missing_elsewhere_or_too_many_are_said_plainly() {
    let key = Ec::new();
    let groups = |claims: &Value| verify(&key, &key.token(claims)).unwrap().groups("groups");
    let overage = json!({ "groups": "src1" });
    let many: Vec<_> = (0..=oidc::GROUPS_MAX).map(|n| format!("g{n}")).collect();
    let mut left_out = without("groups");
    left_out["_claim_names"] = overage.clone();
    for (claims, expected) in [
        (without("groups"), Groups::Missing),
        (left_out, Groups::Elsewhere),
        (with("_claim_names", overage), Groups::Elsewhere),
        (with("hasgroups", json!(true)), Groups::Elsewhere),
        (with("groups", json!(many)), Groups::TooMany),
        (with("groups", json!(["a".repeat(oidc::GROUP_MAX + 1)])), Groups::TooMany),
        (with("groups", json!("admins,all")), Groups::Unreadable),
        (with("groups", json!([7])), Groups::Unreadable),
        (with("groups", json!({ "admins": true })), Groups::Unreadable),
    ] {
        assert_eq!(groups(&claims), expected, "{claims:.80}");
        assert!(expected.hint().is_some());
    }
    assert_eq!(groups(&with("groups", json!([]))), Groups::Listed([].into()));
    assert!(Groups::Listed([].into()).hint().is_none());
}
