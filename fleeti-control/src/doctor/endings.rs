//! What of a server ends when, and who renews it.

use crate::pki::Pki;
use crate::settings::{ApiCertificate, Settings};
use crate::trust::state::{Accepted, Trust};
use fleeti_core::doctor::DAY_S;
use fleeti_core::wire::doctor::{Ending, EndingKind, Renewal};
use fleeti_pki::certificate::{self, Purpose};
use fleeti_pki::tpm::endorsement::Manufacturers;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::Path;
use x509_cert::Certificate;

/// The server renews its certificate for devices every six hours: with less left, it was not renewed
/// for two weeks.
pub const IDENTITY_S_MIN: u64 = 7 * DAY_S;
/// The server renews CRLs for devices every six hours.
pub const CRL_S_MIN: u64 = 12 * 3600;
/// The server renews the certificate of the API that it issued itself when a third of a year is
/// left.
const API_S_MIN: u64 = 100 * DAY_S;

/// What is known of a server, running or not.
pub struct Known<'a> {
    /// Certificates and public keys.
    pub pki: &'a Pki,
    /// The intermediate CAs that count.
    pub trust: &'a Trust,
    /// The trusted manufacturers of TPMs.
    pub manufacturers: &'a Manufacturers,
    /// What an operator configured.
    pub settings: &'a Settings,
    /// End of the certificate for devices, Unix seconds.
    pub identity_ends_s: Option<u64>,
    /// The earliest end of a CRL for devices, Unix seconds.
    pub crl_ends_s: Option<u64>,
}

/// Everything that ends.
#[must_use]
pub fn of(known: &Known<'_>) -> Vec<Ending> {
    let mut all = vec![root(&known.pki.root)];
    all.extend(known.trust.root_crl_ends_s().map(|ends_s| Ending {
        kind: EndingKind::RootCrl,
        subject: name(&known.pki.root),
        ends_s,
        renewal: people("operators with shares of the root"),
        remedy: "fleeti pki root crl ROOT --share ...; fleeti pki bundle publish ROOT".into(),
    }));
    all.extend(known.trust.accepted().map(|accepted| intermediate(known.trust, accepted)));
    let started = "systemctl restart fleeti-signer.service; journalctl --unit fleeti-server";
    let by_server = |kind, ends_s: Option<u64>, left_s| {
        ends_s.map(|ends_s| Ending {
            kind,
            subject: "of this server".into(),
            ends_s,
            renewal: Renewal::Server { left_s },
            remedy: started.into(),
        })
    };
    all.extend(by_server(EndingKind::ServerCertificate, known.identity_ends_s, IDENTITY_S_MIN));
    all.extend(by_server(EndingKind::DeviceCrl, known.crl_ends_s, CRL_S_MIN));
    all.extend(known.settings.api_certificate.as_ref().and_then(api));
    let db = leaf(&known.settings.data.join("pki/public/db.pem"));
    all.extend(db.map(|certificate| Ending {
        kind: EndingKind::BootCertificate,
        subject: name(&certificate),
        ends_s: certificate::not_after_s(&certificate),
        renewal: people("who holds offline/db.key"),
        remedy:
            "fleeti device boot-keys DEVICE begin-epoch (docs/guides/secure-boot-keys.md)".into(),
    }));
    all.extend(known.manufacturers.lists().map(|(subject, ends_s)| Ending {
        kind: EndingKind::ManufacturerCrl,
        subject,
        ends_s,
        renewal: people("an administrator of the server"),
        remedy:
            "put the newest CRL of this manufacturer into DIR/pki/tpm-manufacturers/KIND".into(),
    }));
    all
}

fn people(who: &str) -> Renewal {
    Renewal::People { who: who.into() }
}

fn name(certificate: &Certificate) -> String {
    certificate.tbs_certificate().subject().to_string()
}

fn root(root: &Certificate) -> Ending {
    Ending {
        kind: EndingKind::Root,
        subject: name(root),
        ends_s: certificate::not_after_s(root),
        renewal: people("operators with shares of the root"),
        remedy:
            "fleeti pki transition root OLD --to NEW/root.pem (docs/guides/lost-and-leaked-keys.md)"
                .into(),
    }
}

fn intermediate(trust: &Trust, accepted: &Accepted) -> Ending {
    let issues = [trust.device(), trust.server()].iter().any(|a| a.sha256 == accepted.sha256);
    let purpose = match accepted.purpose {
        Purpose::Device => "for devices",
        Purpose::Server => "for servers",
        Purpose::Operator => "for operators",
    };
    Ending {
        kind: if issues { EndingKind::IntermediateCa } else { EndingKind::FormerCa },
        subject: format!("{purpose} {}", name(&accepted.certificate)),
        ends_s: certificate::not_after_s(&accepted.certificate),
        renewal: if issues {
            people("operators with shares of the root")
        } else {
            Renewal::Nobody
        },
        remedy: "fleeti pki request, fleeti pki root sign, fleeti pki bundle switch (docs/guides/rotate-intermediate-ca.md)"
            .into(),
    }
}

fn api(api: &ApiCertificate) -> Option<Ending> {
    let certificate = leaf(&api.path)?;
    let (renewal, remedy) = if api.is_self_issued {
        (
            Renewal::Server { left_s: API_S_MIN },
            "systemctl restart fleeti-server.service; journalctl --unit fleeti-server".to_owned(),
        )
    } else {
        let remedy = format!("replace {} and its key by new ones", api.path.display());
        (people("an administrator of the server"), remedy)
    };
    Some(Ending {
        kind: EndingKind::ApiCertificate,
        subject: name(&certificate),
        ends_s: certificate::not_after_s(&certificate),
        renewal,
        remedy,
    })
}

/// The first certificate of a PEM file; `None` if the file is missing or has no certificate.
fn leaf(path: &Path) -> Option<Certificate> {
    let der = CertificateDer::from_pem_slice(&std::fs::read(path).ok()?).ok()?;
    certificate::from_der(&der).ok()
}
