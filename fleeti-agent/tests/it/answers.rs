//! Responses of the server and of the helper in undocumented forms: each is an error that names the
//! response.

use crate::bench::{Bench, now_s};
use fleeti_agent::announcements::Announcements;
use fleeti_agent::channel::Channel;
use fleeti_agent::http::{RESPONSE_MAX, read_document};
use fleeti_agent::privileged::{Helper, MESSAGE_MAX, Response};
use fleeti_agent::server_trust::danger;
use fleeti_agent::transitions::{self, LIST_MAX};
use fleeti_core::wire::attestation::TpmSecret;
use fleeti_core::wire::device::{Notice, SignedBundle};
use fleeti_core::wire::enrollment::{EnrollResponse, RenewalWindow};
use fleeti_core::wire::readmission::SignedTransition;
use fleeti_pki::certificate::{Period, Role, self_signed, to_der};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_testkit::malformed::{self, HttpPeer};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// A helper that answers each request with the next bytes.
fn helper(dir: &tempfile::TempDir) -> (Helper, mpsc::Sender<Vec<u8>>) {
    let path = dir.path().join("helper.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (answers, mut given) = mpsc::channel::<Vec<u8>>(1);
    tokio::spawn(async move {
        while let Some(bytes) = given.recv().await {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            stream.read_line(&mut String::new()).await.unwrap();
            // The client may close the connection early.
            stream.write_all(&bytes).await.ok();
        }
    });
    (Helper::at(path), answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_the_helper_in_another_form_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (helper, answers) = helper(&dir);
    let summary = r#"{"boot_id":"b","running":"kiosk@1","slot":"a","verity":"verified","secure_boot":true,"pcr11":null,
        "firmware":{"setup_mode":false,"pk":null,"kek":[],"db":[],"dbx":[],"change":1}}"#;
    let tpm = r#"{"endorsement_key":"AA==","certificates":[],"attestation_key":"AA=="}"#;
    let typed = |text: &str| {
        serde_json::to_string(&serde_json::from_str::<Response>(text).unwrap()).unwrap()
    };
    let boot = typed(&format!(r#"{{"answer":"boot","summary":{summary}}}"#));
    let identity = typed(&format!(r#"{{"answer":"tpm","identity":{tpm}}}"#));
    let signature = typed(r#"{"answer":"signature","signature":"AA=="}"#);
    let ask = async |which: &str| match which {
        "boot" => helper.boot_summary().await.map(drop),
        "identity" => helper.tpm_identity().await.map(drop),
        _ => tokio::task::block_in_place(|| helper.sign(&[0; 32], &[0; 32])).map(drop),
    };
    for (which, good) in [("boot", &boot), ("identity", &identity), ("signature", &signature)] {
        answers.send(format!("{good}\n").into_bytes()).await.unwrap();
        ask(which).await.unwrap();
        for form in malformed::forms(good).unwrap() {
            answers.send(format!("{}\n", form.text).into_bytes()).await.unwrap();
            let refused = format!("{:#}", ask(which).await.expect_err(&form.what));
            assert!(
                refused.starts_with("the helper's answer: "),
                "{which}: {}: {refused}",
                form.what
            );
        }
        answers.send(vec![b' '; usize::try_from(MESSAGE_MAX).unwrap() + 1]).await.unwrap();
        let refused = ask(which).await.unwrap_err().to_string();
        assert_eq!(refused, format!("the helper's answer has more than {MESSAGE_MAX} bytes"));
    }
}

#[tokio::test]
async fn a_document_of_the_server_in_another_form_is_an_error() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let (peer, http) = (HttpPeer::start().unwrap(), reqwest::Client::new());
    let transition =
        SignedTransition { transition: "{}".into(), signatures: vec![("k".into(), "AA==".into())] };
    let good = serde_json::to_string(&vec![transition.clone()]).unwrap();
    peer.answers(200, &good);
    assert_eq!(transitions::fetch(&http, &peer.url).await.unwrap(), [transition]);
    for form in malformed::forms(&good).unwrap() {
        peer.answers(200, &form.text);
        let refused =
            format!("{:#}", transitions::fetch(&http, &peer.url).await.expect_err(&form.what));
        assert!(refused.starts_with("transitions.json: "), "{}: {refused}", form.what);
    }
    peer.answers(200, &" ".repeat(LIST_MAX + 1));
    let refused = format!("{:#}", transitions::fetch(&http, &peer.url).await.unwrap_err());
    assert_eq!(refused, format!("transitions.json: the response has more than {LIST_MAX} bytes"));
    // Read like the TPM's secret, the fleet's secrets, consistency proofs and Secure Boot changes.
    let good = serde_json::to_string(&TpmSecret {
        id: "i".into(),
        blob: "AA==".into(),
        secret: "AA==".into(),
    })
    .unwrap();
    let read = async |text: &str| {
        peer.answers(200, text);
        let response = http.get(&peer.url).send().await.unwrap();
        read_document::<TpmSecret>("the secret", response, 1000).await.map_err(|e| format!("{e:#}"))
    };
    read(&good).await.unwrap();
    for form in malformed::forms(&good).unwrap() {
        let refused = read(&form.text).await.unwrap_err();
        assert!(refused.starts_with("the secret: "), "{}: {refused}", form.what);
    }
    assert_eq!(
        read(&" ".repeat(1001)).await.unwrap_err(),
        "the secret: the response has more than 1000 bytes"
    );
}

#[tokio::test]
async fn a_trust_bundle_in_another_form_is_an_error_and_is_not_kept() {
    let bench = Bench::new();
    let (peer, http, announcements) = (
        HttpPeer::start().unwrap(),
        reqwest::Client::new(),
        Announcements::open(&bench.paths).unwrap(),
    );
    let good =
        serde_json::to_string(&SignedBundle { bundle: "{}".into(), signature: "AA==".into() })
            .unwrap();
    for form in malformed::forms(&good).unwrap() {
        peer.answers(200, &form.text);
        let notice = Notice { trust_bundle: 7, ..Notice::default() };
        let refused = format!(
            "{:#}",
            announcements.listen(&notice, &http, &peer.url).await.expect_err(&form.what)
        );
        assert!(refused.contains("the trust bundle: "), "{}: {refused}", form.what);
    }
    let kept = std::fs::read_dir(&bench.paths.state)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(!kept.into_iter().any(|name| name.starts_with("trust-bundle")));
}

/// A server that answers the one request of each connection with the next document.
async fn server() -> (String, mpsc::Sender<String>) {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let certificate = self_signed(Role::Root, Period::starting(now_s(), 86_400), &key).unwrap();
    let chain = vec![CertificateDer::from(to_der(&certificate).unwrap())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der().unwrap().to_vec()));
    let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (answers, mut given) = mpsc::channel::<String>(1);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        while let Some(text) = given.recv().await {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            // Head and body are one write: the body is `null`.
            let mut request = Vec::new();
            while !request.ends_with(b"null") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
            stream.write_all(&[head.as_bytes(), text.as_bytes()].concat()).await.ok();
            stream.shutdown().await.ok();
        }
    });
    (url, answers)
}

#[tokio::test]
async fn an_answer_to_an_enrollment_in_another_form_is_an_error() {
    let (url, answers) = server().await;
    let ask = async |text: String| {
        answers.send(text).await.unwrap();
        let mut channel =
            Channel::open(&url, danger::of_any_server().unwrap(), None).await.unwrap();
        channel.post::<_, EnrollResponse>("/enroll", &()).await.map_err(|e| format!("{e:#}"))
    };
    let response = EnrollResponse {
        device: "dev-a".parse().unwrap(),
        fleet: "demo".parse().unwrap(),
        certificate_chain_pem: "PEM".into(),
        renewal: RenewalWindow { start_s: 1, end_s: 2 },
    };
    let good = serde_json::to_string(&response).unwrap();
    assert_eq!(ask(good.clone()).await.unwrap().device, response.device);
    for form in malformed::forms(&good).unwrap() {
        let refused = ask(form.text).await.map(|r| r.device).expect_err(&form.what);
        assert!(
            refused.starts_with("the server's answer to /enroll: "),
            "{}: {refused}",
            form.what
        );
    }
    let refused = ask(" ".repeat(RESPONSE_MAX + 1)).await.map(|r| r.device).unwrap_err();
    assert_eq!(
        refused,
        format!("the server's answer to /enroll has more than {RESPONSE_MAX} bytes")
    );
}
