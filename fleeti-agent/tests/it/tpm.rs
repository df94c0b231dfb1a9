//! The agent's TPM code with a real TPM (swtpm), checked by the server's verification.

use fleeti_agent::tpm::Tpm;
use fleeti_pki::attestation::{Challenge, PCRS};
use fleeti_pki::tpm::attest::{Attest, Statement};
use fleeti_pki::tpm::credential;
use fleeti_pki::tpm::endorsement::{Kind, Manufacturers, NotEndorsed};
use fleeti_pki::tpm::public::{AttestationKey, EndorsementKey, Public};
use fleeti_testkit::tpm::{Manufacturer, Tpm as Swtpm};

#[test]
fn a_tpm_is_the_same_one_after_a_power_cut_and_answers_for_its_pcrs() {
    let manufacturer = Manufacturer::new().unwrap();
    let mut swtpm = Swtpm::new(&manufacturer).unwrap();
    let mut tpm = Tpm::at(&swtpm.tcti()).unwrap();
    let shown = tpm.identity().unwrap();
    let endorsement = EndorsementKey::new(Public::parse(&shown.endorsement_key).unwrap()).unwrap();
    let attestation = AttestationKey::new(Public::parse(&shown.attestation_key).unwrap()).unwrap();

    let mut manufacturers = Manufacturers::default();
    let certificate =
        fleeti_pki::certificate::from_pem(&manufacturer.certificate_pem().unwrap()).unwrap();
    manufacturers
        .believe(&fleeti_pki::certificate::to_der(&certificate).unwrap(), Kind::Virtual)
        .unwrap();
    let now_s =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(
        manufacturers.verify(&endorsement, &shown.certificates, now_s).unwrap().model,
        "swtpm"
    );

    let made = credential::make(&endorsement, &attestation.public().name(), b"the secret").unwrap();
    assert_eq!(tpm.activate(&made.blob, &made.secret).unwrap(), b"the secret");
    let mut name = attestation.public().name();
    name[5] ^= 1;
    let other = credential::make(&endorsement, &name, b"the secret").unwrap();
    assert!(tpm.activate(&other.blob, &other.secret).is_err(), "for another key");
    assert!(tpm.activate(&made.blob[1..], &made.secret).is_err());

    for round in 0..5 {
        let said = tpm.quote(&[round; 32]).unwrap();
        assert!(said.pcrs.keys().eq(&PCRS));
        let quote = Attest::quote(&said.quote, &said.signature, &attestation).unwrap();
        assert_eq!(quote.extra_data, [round; 32]);
        let Statement::Quote { selections, .. } = quote.statement else { panic!("no quote") };
        assert_eq!(selections, [Challenge::selection()]);
    }
    drop(tpm);
    swtpm.cut_power().unwrap();
    let again = Tpm::at(&swtpm.tcti()).unwrap().identity().unwrap();
    assert_eq!(
        (again.endorsement_key, again.attestation_key),
        (shown.endorsement_key, shown.attestation_key),
        "nothing was kept, nothing lost"
    );
}

/// As with Intel TPMs: the operator trusts a root, and the TPM has the intermediate certificates.
#[test]
fn the_certificates_between_a_tpm_and_its_manufacturer_come_out_of_the_tpm() {
    let manufacturer = Manufacturer::new().unwrap();
    let swtpm = Swtpm::new(&manufacturer).unwrap();
    let der = |pem: String| {
        fleeti_pki::certificate::to_der(&fleeti_pki::certificate::from_pem(&pem).unwrap()).unwrap()
    };
    let (root, between) =
        (der(manufacturer.root_pem().unwrap()), der(manufacturer.certificate_pem().unwrap()));
    let now_s =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut manufacturers = Manufacturers::default();
    manufacturers.believe(&root, Kind::Processor).unwrap();
    let verified = || {
        let shown = Tpm::at(&swtpm.tcti()).unwrap().identity().unwrap();
        let key = EndorsementKey::new(Public::parse(&shown.endorsement_key).unwrap()).unwrap();
        (
            manufacturers.verify(&key, &shown.certificates, now_s).map(|e| e.kind),
            shown.certificates.len(),
        )
    };
    let (without, count) = verified();
    assert!(matches!(without, Err(NotEndorsed::Chain(_))) && count == 1, "{without:?}, {count}");
    // More than one NV index, with padding after the certificates.
    let bytes = [between, root, vec![0xff; 40]].concat();
    for (index, part) in bytes.chunks(bytes.len() / 2 + 1).enumerate() {
        std::fs::write(swtpm.dir().join("part"), part).unwrap();
        let index = 0x01c0_0100 + index;
        swtpm
            .tool(&format!(
                "tpm2_nvdefine {index:#x} -C o -s {} -a ownerread|ownerwrite|authread",
                part.len()
            ))
            .unwrap();
        swtpm.tool(&format!("tpm2_nvwrite {index:#x} -C o -i part")).unwrap();
    }
    assert_eq!(verified(), (Ok(Kind::Processor), 3));
}

#[test]
fn a_tpm_without_certificates_is_known_by_its_key_alone() {
    let swtpm = Swtpm::without_manufacturer().unwrap();
    let mut tpm = Tpm::at(&swtpm.tcti()).unwrap();
    let shown = tpm.identity().unwrap();
    assert!(shown.certificates.is_empty());
    let endorsement = EndorsementKey::new(Public::parse(&shown.endorsement_key).unwrap()).unwrap();
    let attestation = AttestationKey::new(Public::parse(&shown.attestation_key).unwrap()).unwrap();
    let made = credential::make(&endorsement, &attestation.public().name(), b"secret").unwrap();
    assert_eq!(tpm.activate(&made.blob, &made.secret).unwrap(), b"secret");
}

#[test]
fn what_the_helper_measured_arrives_at_the_daemon() {
    let swtpm = Swtpm::without_manufacturer().unwrap();
    let paths = swtpm.paths(b"", b"").unwrap();
    let device = "dev-1".parse().unwrap();
    let measured =
        fleeti_agent::privileged::measured::evidence(&paths, &"07".repeat(32), &device).unwrap();
    let said = measured.pcrs.clone();
    let answer = fleeti_agent::privileged::Response::Evidence { measured: Box::new(measured) };
    let line = serde_json::to_vec(&answer).unwrap();
    let fleeti_agent::privileged::Response::Evidence { measured } =
        serde_json::from_slice(&line).unwrap()
    else {
        panic!("another answer")
    };
    assert_eq!(measured.pcrs, said);
    assert_eq!(said.len(), PCRS.len());
}
