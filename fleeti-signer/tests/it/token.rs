//! The signing service with its keys in a token: the process holds their URIs and the PIN, and
//! nothing that could be copied.

use crate::process::start_with;
use crate::{World, device};
use fleeti_pki::certificate::{self, Authority, Period, Purpose, Role, issue};
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::sealed;
use fleeti_pki::signer::token::{TokenKey, TokenUri};
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use fleeti_pki::transparency::note::LogKey;
use fleeti_signer::lifetimes::DEVICE_S_MIN;
use fleeti_signer_client::socket;
use fleeti_signer_client::wire::{Request, Response};
use fleeti_testkit::token::{MODULE, PIN, with_token};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes a key in the token. Its key file contains the URI and the path of the file with the PIN.
fn in_token(world: &World, object: &str, algorithm: Algorithm) -> TokenKey {
    let pin = world.path("pin");
    fs::write(&pin, PIN).unwrap();
    let text = format!(
        "pkcs11:token=fleeti;object={object}?module-path={MODULE}&pin-source=file:{}",
        pin.display()
    );
    fs::write(world.path("pki/online").join(format!("{object}.key")), format!("{text}\n")).unwrap();
    TokenKey::generate(&text.parse::<TokenUri>().unwrap(), PIN, algorithm).unwrap()
}

#[test]
fn devices_and_checkpoints_are_signed_by_keys_that_never_leave_the_token() {
    with_token(
        "token::devices_and_checkpoints_are_signed_by_keys_that_never_leave_the_token",
        || {
            let world = World::new();
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let public = |name: &str| world.path("pki/public").join(name);
            let file = fs::read(world.path("pki/offline/root.key")).unwrap();
            let root_key =
                SoftKey::from_pkcs8_der(&sealed::open(&file, purpose::ROOT, b"pass").unwrap())
                    .unwrap();
            let root =
                certificate::from_pem(&fs::read_to_string(public("root.pem")).unwrap()).unwrap();
            let key = in_token(&world, purpose::DEVICE_CA, Algorithm::P384);
            let authority = Authority { certificate: &root, signer: &root_key };
            let role = Role::Intermediate { purpose: Purpose::Device };
            let ca = issue(
                role,
                Period::starting(now_s, 86_400 * 365),
                key.public_key_der(),
                &authority,
            )
            .unwrap();
            fs::write(public("device-ca.pem"), certificate::to_pem(&ca).unwrap()).unwrap();
            let audit = in_token(&world, purpose::AUDIT, Algorithm::Ed25519);
            let log = LogKey::of(world.log_key().name(), &audit).unwrap();
            fs::write(public("audit.pub"), log.to_text()).unwrap();

            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let _process = start_with(&world, &[]).await;
                let signer = socket::connect(world.path("socket"));
                let Response::Certificate { der } =
                    signer.ask(device("dev-a", DEVICE_S_MIN)).await.unwrap()
                else {
                    panic!("no certificate")
                };
                use base64::Engine;
                let leaf = base64::engine::general_purpose::STANDARD.decode(der).unwrap();
                let leaf = certificate::from_der(&leaf).unwrap();
                assert_eq!(leaf.tbs_certificate().issuer(), ca.tbs_certificate().subject());
                let Response::Checkpoint { note } = signer.ask(Request::Checkpoint).await.unwrap()
                else {
                    panic!("no checkpoint")
                };
                assert_eq!(log.verify(&note).unwrap().checkpoint().size, 2);
            });
        },
    );
}

#[test]
fn a_key_in_the_token_that_is_not_the_certificates_is_found_at_the_start() {
    with_token(
        "token::a_key_in_the_token_that_is_not_the_certificates_is_found_at_the_start",
        || {
            let world = World::new();
            in_token(&world, purpose::DEVICE_CA, Algorithm::P384);
            let error = format!(
                "{:#}",
                fleeti_signer::keys::open(&world.path("pki"), b"pass", None).err().unwrap()
            );
            assert_eq!(error, "device-ca.pem and device-ca.key: the certificate is of another key");
        },
    );
}
