//! The server's own certificate.

use super::access::CheckedCrls;
use super::revocation;
use super::standby::Standby;
use super::state::Trust;
use crate::context::Context;
use crate::error::for_log;
use crate::ports::ServerIdentity;
use crate::settings::Settings;
use crate::signing;
use anyhow::Result;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::{certificate, csr};
use fleeti_signer_client::handle::SignerHandle;
use fleeti_signer_client::wire::Request;
use fleeti_store::Db;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Makes a new key and certificate, puts them in use, and stores them for a start without the
/// signing service.
pub(crate) async fn renew_identity(cx: &Context) -> Result<()> {
    let identity =
        new_identity(&cx.signer, &cx.trust.current.load_full(), &cx.settings.names).await?;
    Standby::of(&cx.settings.data).keep_identity(&identity);
    cx.ports.use_identity(identity)
}

/// What a server needs to accept connections of devices.
pub(crate) struct Credentials {
    /// The server's certificate and key.
    pub(crate) identity: ServerIdentity,
    /// The CRLs of all intermediate CAs for devices that count.
    pub(crate) crls: CheckedCrls,
    /// Whether they are new: the signing service answered.
    pub(crate) has_signer: bool,
}

/// The server's certificate and the CRLs: new ones from the signing service or, if it does not
/// answer, the stored ones.
pub(crate) async fn credentials(
    settings: &Settings,
    db: &Db,
    signer: &SignerHandle,
    trust: &Trust,
) -> Result<Credentials> {
    let standby = Standby::of(&settings.data);
    let new = async {
        // A single request shows whether the signing service answers.
        signing::ask(signer, Request::Issuers).await?;
        let crls = revocation::crls(db, signer, trust, settings.clock.now_s()).await?;
        anyhow::Ok((new_identity(signer, trust, &settings.names).await?, crls))
    };
    match new.await {
        Ok((identity, crls)) => {
            standby.keep_identity(&identity);
            standby.keep_crls(&crls);
            Ok(Credentials { identity, crls: CheckedCrls::read(crls)?, has_signer: true })
        }
        Err(e) => {
            let none = "the signing service does not provide certificate and CRLs, and none are stored from an earlier start";
            let kept = standby
                .identity()
                .and_then(|identity| Ok((identity, CheckedCrls::read(standby.crls(trust)?)?)));
            let (identity, crls) = match kept {
                Ok(kept) => kept,
                Err(missing) => return Err(e.context(format!("{none}: {missing:#}"))),
            };
            tracing::error!("{}", for_log(&e));
            tracing::error!(
                "the server starts without the signing service, with its stored certificate and CRLs: it serves devices"
            );
            Ok(Credentials { identity, crls, has_signer: false })
        }
    }
}

async fn new_identity(
    signer: &SignerHandle,
    trust: &Trust,
    names: &[String],
) -> Result<ServerIdentity> {
    let key = SoftKey::generate(Algorithm::P256)?;
    let issuer = trust.server();
    let request = Request::CertifyServer {
        names: names.to_vec(),
        csr_pem: csr::create(&key)?,
        issuer: Some(issuer.sha256.clone()),
    };
    let leaf = signing::certificate(signer, request).await?;
    let chain = vec![
        CertificateDer::from(leaf),
        CertificateDer::from(certificate::to_der(&issuer.certificate)?),
    ];
    Ok(ServerIdentity {
        chain,
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der()?.to_vec())),
    })
}
