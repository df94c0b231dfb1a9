//! What a real TPM (swtpm) returns to its own tools, as parsed by this crate.

use fleeti_pki::certificate;
use fleeti_pki::tpm::attest::Attest;
use fleeti_pki::tpm::credential;
use fleeti_pki::tpm::endorsement::{self, Kind, Manufacturers, NotEndorsed};
use fleeti_pki::tpm::public::{AttestationKey, DeviceKey, EndorsementKey, Public};
use fleeti_testkit::tpm::{Manufacturer, Tpm};

use crate::now_s;

fn public(tpm: &Tpm, name: &str) -> Public {
    Public::parse_sized(&tpm.file(name).unwrap()).unwrap()
}

/// An endorsement key and an attestation key under it; `kind` and `hash` are those of the
/// attestation key.
fn keys(tpm: &Tpm, endorsement: &str, kind: &str, hash: &str) {
    tpm.tools(&format!(
        "tpm2_createek -c ek.ctx -G {endorsement} -u ek.pub
         tpm2_flushcontext -t
         tpm2_createak -C ek.ctx -c ak.ctx -G {kind} -g {hash} -s ecdsa -u ak.pub -n ak.name -f tss
         tpm2_flushcontext -t"
    ))
    .unwrap();
}

#[test]
fn a_tpm_gives_a_secret_away_for_the_key_that_it_was_made_for_and_for_no_other() {
    let manufacturer = Manufacturer::new().unwrap();
    let tpm = Tpm::new(&manufacturer).unwrap();
    for (endorsement, kind, hash) in [
        ("rsa", "ecc256", "sha256"),
        ("ecc", "ecc256", "sha256"),
        ("ecc384", "ecc384", "sha384"),
        ("rsa", "ecc384", "sha384"),
    ] {
        keys(&tpm, endorsement, kind, hash);
        let (ek, ak) = (
            EndorsementKey::new(public(&tpm, "ek.pub")).unwrap(),
            AttestationKey::new(public(&tpm, "ak.pub")).unwrap(),
        );
        assert_eq!(
            ak.public().name(),
            tpm.file("ak.name").unwrap(),
            "the name is computed as the TPM does"
        );
        let activate = |name: &[u8]| {
            let made = credential::make(&ek, name, b"a secret of at most 32 bytes").unwrap();
            // The file format of tpm2-tools: a magic number, a version, and both structures.
            let file =
                [&[0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1][..], &made.blob, &made.secret].concat();
            std::fs::write(tpm.path("credential"), file).unwrap();
            let activate = "tpm2_activatecredential -c ak.ctx -C ek.ctx -i credential -o given";
            // A key of the high range has an empty password, one of the low range only a policy.
            let given = if endorsement == "ecc384" {
                tpm.tool(activate)
            } else {
                tpm.tools("tpm2_startauthsession --policy-session -S session.ctx\n tpm2_policysecret -S session.ctx -c e").unwrap();
                let given = tpm.tool(&format!("{activate} -P session:session.ctx"));
                tpm.tool("tpm2_flushcontext session.ctx").unwrap();
                given
            };
            tpm.tool("tpm2_flushcontext -t").unwrap();
            given.map(|_| tpm.file("given").unwrap())
        };
        assert_eq!(
            activate(&ak.public().name()).unwrap(),
            b"a secret of at most 32 bytes",
            "{endorsement} {kind}"
        );
        let mut other = ak.public().name();
        other[5] ^= 1;
        let refused = activate(&other).unwrap_err().to_string();
        assert!(refused.contains("integrity"), "{refused}");
    }
    let ek = EndorsementKey::new(public(&tpm, "ek.pub")).unwrap();
    assert!(credential::make(&ek, b"name", &[0; 33]).is_err(), "more than a TPM returns");
}

#[test]
fn only_a_restricted_signing_key_that_was_born_there_attests() {
    let tpm = Tpm::new(&Manufacturer::new().unwrap()).unwrap();
    keys(&tpm, "ecc", "ecc256", "sha256");
    let area = AttestationKey::new(public(&tpm, "ak.pub")).unwrap().public().bytes().to_vec();
    // The defect, and the attributes (octets 4 to 7) with it.
    let table: [(&str, u32, bool); 6] = [
        ("restricted", 1 << 16, false),
        ("sign", 1 << 18, false),
        ("fixedTPM", 1 << 1, false),
        ("fixedParent", 1 << 4, false),
        ("sensitiveDataOrigin", 1 << 5, false),
        ("decrypt", 1 << 17, true),
    ];
    for (what, bit, set) in table {
        let mut changed = area.clone();
        let attributes = u32::from_be_bytes(changed[4..8].try_into().unwrap());
        let attributes = if set { attributes | bit } else { attributes & !bit };
        changed[4..8].copy_from_slice(&attributes.to_be_bytes());
        assert!(AttestationKey::new(Public::parse(&changed).unwrap()).is_err(), "{what}");
    }
    assert!(
        DeviceKey::new(Public::parse(&area).unwrap()).is_err(),
        "an attestation key is not a device key"
    );
    assert!(EndorsementKey::new(Public::parse(&area).unwrap()).is_err());
    assert!(
        AttestationKey::new(public(&tpm, "ek.pub")).is_err(),
        "an endorsement key does not attest"
    );
}

#[test]
fn a_key_of_the_tpm_is_certified_by_its_attestation_key() {
    let tpm = Tpm::new(&Manufacturer::new().unwrap()).unwrap();
    keys(&tpm, "ecc", "ecc256", "sha256");
    tpm.tools(
        "tpm2_createprimary -C o -G ecc256:ecdsa-sha256 -a fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign -c dk.ctx
         tpm2_readpublic -c dk.ctx -o dk.pub
         tpm2_flushcontext -t
         tpm2_certify -C ak.ctx -c dk.ctx -g sha256 -o certification -s certification.sig
         tpm2_flushcontext -t",
    )
    .unwrap();
    let ak = AttestationKey::new(public(&tpm, "ak.pub")).unwrap();
    let key = DeviceKey::new(public(&tpm, "dk.pub")).unwrap();
    let (said, signature) =
        (tpm.file("certification").unwrap(), tpm.file("certification.sig").unwrap());
    let certified = Attest::certification(&said, &signature, &ak).unwrap();
    assert_eq!(
        certified.statement,
        fleeti_pki::tpm::attest::Statement::Certify { name: key.public().name() }
    );
    assert!(Attest::quote(&said, &signature, &ak).is_err(), "a certification is not a quote");
    let spki = key.public().to_spki_der().unwrap();
    tpm.tool("tpm2_readpublic -c dk.ctx -f der -o dk.der").unwrap();
    assert_eq!(spki, tpm.file("dk.der").unwrap());
}

/// Certificates of the endorsement keys, DER, from the TPM's memory.
fn certificate_at(tpm: &Tpm, index: &str) -> Vec<u8> {
    tpm.tool(&format!("tpm2_nvread {index} -o certificate")).unwrap();
    tpm.file("certificate").unwrap()
}

#[test]
fn a_tpm_is_of_the_manufacturer_that_signed_for_its_key_if_that_one_is_believed() {
    let (manufacturer, stranger) = (Manufacturer::new().unwrap(), Manufacturer::new().unwrap());
    let (tpm, other) = (Tpm::new(&manufacturer).unwrap(), Tpm::new(&stranger).unwrap());
    let der = |manufacturer: &Manufacturer| {
        certificate::to_der(
            &certificate::from_pem(&manufacturer.certificate_pem().unwrap()).unwrap(),
        )
        .unwrap()
    };
    let mut manufacturers = Manufacturers::default();
    tpm.tools("tpm2_createek -c ek.ctx -G rsa -u rsa.pub\n tpm2_flushcontext -t\n tpm2_createek -c ek.ctx -G ecc384 -u ecc.pub").unwrap();
    let rsa = EndorsementKey::new(public(&tpm, "rsa.pub")).unwrap();
    let ecc = EndorsementKey::new(public(&tpm, "ecc.pub")).unwrap();
    let (rsa_certificate, ecc_certificate) =
        (certificate_at(&tpm, "0x1c00002"), certificate_at(&tpm, "0x1c00016"));

    let nobody = manufacturers.verify(&rsa, std::slice::from_ref(&rsa_certificate), now_s());
    assert!(
        matches!(nobody, Err(NotEndorsed::Chain(_))),
        "{nobody:?}: no manufacturer is trusted at first"
    );
    manufacturers.believe(&der(&manufacturer), Kind::Virtual).unwrap();
    let made = manufacturers.verify(&rsa, std::slice::from_ref(&rsa_certificate), now_s()).unwrap();
    assert_eq!((made.kind, made.model.as_str()), (Kind::Virtual, "swtpm"));
    manufacturers.verify(&ecc, std::slice::from_ref(&ecc_certificate), now_s()).unwrap();
    let mut both = Manufacturers::default();
    both.believe(&der(&stranger), Kind::Hardware).unwrap();
    both.believe(&der(&manufacturer), Kind::Virtual).unwrap();
    let made = both.verify(&rsa, std::slice::from_ref(&rsa_certificate), now_s()).unwrap();
    assert_eq!(made.kind, Kind::Virtual, "the kind of its manufacturer");

    let refused = |key: &EndorsementKey, certificates: &[Vec<u8>]| {
        manufacturers.verify(key, certificates, now_s()).unwrap_err()
    };
    assert_eq!(refused(&rsa, std::slice::from_ref(&ecc_certificate)), NotEndorsed::OtherKey);
    assert!(matches!(refused(&rsa, &[]), NotEndorsed::NotOne(_)));
    assert!(matches!(
        refused(&rsa, &[rsa_certificate[..100].to_vec()]),
        NotEndorsed::Unreadable(_)
    ));
    assert!(
        matches!(
            refused(&rsa, &[[&rsa_certificate[..], &[0]].concat()]),
            NotEndorsed::Unreadable(_)
        ),
        "trailing bytes"
    );
    let many: Vec<_> = std::iter::once(rsa_certificate.clone())
        .chain(std::iter::repeat_n(der(&manufacturer), 9))
        .collect();
    assert!(matches!(refused(&rsa, &many), NotEndorsed::Unreadable(_)));
    assert!(
        matches!(
            refused(&rsa, &[rsa_certificate.clone(), vec![0x30; 8 * 1024 + 1]]),
            NotEndorsed::Unreadable(_)
        ),
        "too large"
    );
    let mut changed = rsa_certificate.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(matches!(refused(&rsa, &[changed]), NotEndorsed::Chain(_)));
    // A TPM of another manufacturer, which is not trusted.
    other.tool("tpm2_createek -c ek.ctx -G rsa -u rsa.pub").unwrap();
    let theirs = EndorsementKey::new(public(&other, "rsa.pub")).unwrap();
    assert!(matches!(
        refused(&theirs, &[certificate_at(&other, "0x1c00002"), der(&stranger)]),
        NotEndorsed::Chain(_)
    ));
    assert!(
        manufacturers.believe(&rsa_certificate, Kind::Hardware).is_err(),
        "a TPM certificate is not a CA"
    );
}

#[test]
fn what_its_manufacturer_took_back_is_endorsed_no_more_and_nothing_is_by_a_list_that_has_ended() {
    let read = |bytes: &[u8]| endorsement::each_of(bytes).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (sequence, number) = ([0x30, 1, 0], [2, 1, 0]);
    assert_eq!(
        read(&[sequence, sequence, number, sequence].concat()),
        [sequence, sequence],
        "up to the first byte that starts no certificate"
    );
    let manufacturer = Manufacturer::with_lists().unwrap();
    let (tpm, other) = (Tpm::new(&manufacturer).unwrap(), Tpm::new(&manufacturer).unwrap());
    let der = |manufacturer: &Manufacturer| {
        certificate::to_der(
            &certificate::from_pem(&manufacturer.certificate_pem().unwrap()).unwrap(),
        )
        .unwrap()
    };
    let shown = |tpm: &Tpm| {
        tpm.tool("tpm2_createek -c ek.ctx -G rsa -u rsa.pub").unwrap();
        (EndorsementKey::new(public(tpm, "rsa.pub")).unwrap(), [certificate_at(tpm, "0x1c00002")])
    };
    let ((taken, its), (kept, theirs)) = (shown(&tpm), shown(&other));
    let believed = |lists: &[&[u8]]| {
        let mut manufacturers = Manufacturers::default();
        manufacturers.believe(&der(&manufacturer), Kind::Hardware).unwrap();
        lists.iter().for_each(|list| manufacturers.look_at(list).unwrap());
        manufacturers
    };
    let nobody = manufacturer.list(&[]).unwrap();
    believed(&[&nobody]).verify(&taken, &its, now_s()).unwrap();
    let list = manufacturer.list(&its).unwrap();
    let manufacturers = believed(&[&list]);
    assert_eq!(manufacturers.verify(&taken, &its, now_s()).unwrap_err(), NotEndorsed::Revoked);
    manufacturers.verify(&kept, &theirs, now_s()).unwrap();
    assert_eq!(
        manufacturers.verify(&kept, &theirs, now_s() + 2 * 86_400).unwrap_err(),
        NotEndorsed::OldList
    );

    for both in [[&list[..], &nobody], [&nobody, &list]] {
        assert_eq!(
            believed(&both).verify(&taken, &its, now_s()).unwrap_err(),
            NotEndorsed::Revoked,
            "the newest one counts"
        );
    }
    let itself = believed(&[&manufacturer.list(&[der(&manufacturer)]).unwrap()]).verify(
        &kept,
        &theirs,
        now_s(),
    );
    assert!(
        matches!(itself, Err(NotEndorsed::Chain(_))),
        "a manufacturer that is itself on a CRL: {itself:?}"
    );

    // In the manufacturer's name, by another key: its issuer cannot be distinguished from the
    // manufacturer, so the CRL counts for neither.
    let forged = believed(&[&Manufacturer::with_lists().unwrap().list(&[]).unwrap()]);
    let refused = forged.verify(&kept, &theirs, now_s()).unwrap_err();
    assert!(matches!(&refused, NotEndorsed::Chain(e) if e.contains("Signature")), "{refused}");
    let mut manufacturers = believed(&[]);
    for (what, list) in [
        ("truncated", &list[..list.len() - 1]),
        ("trailing bytes", &[&list[..], &[0]].concat()),
        ("none", &its[0]),
    ] {
        assert!(manufacturers.look_at(list).is_err(), "{what}");
    }
    let (one, now) = (believed(&[&list]), now_s());
    assert_ne!(one.digest(now), believed(&[]).digest(now));
    assert_ne!(one.digest(now), believed(&[&nobody]).digest(now));
    assert_ne!(one.digest(now), one.digest(now + 2 * 86_400), "it has expired");
}

/// Certificates of a trusted manufacturer, for the right key, with one defect each.
#[test]
fn a_certificate_with_one_defect_endorses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tpm = Tpm::without_manufacturer().unwrap();
    tpm.tools("tpm2_createek -c ek.ctx -G ecc -u ek.pub\n tpm2_flushcontext -t").unwrap();
    let key =
        EndorsementKey::new(Public::parse_sized(&tpm.file("ek.pub").unwrap()).unwrap()).unwrap();
    let spki =
        <der::Document as der::Decode>::from_der(&key.public().to_spki_der().unwrap()).unwrap();
    std::fs::write(
        dir.path().join("ek.pem"),
        spki.to_pem("PUBLIC KEY", der::pem::LineEnding::LF).unwrap(),
    )
    .unwrap();
    let openssl = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (good, said) = crate::run("openssl", &words, dir.path());
        assert!(good, "openssl {line}: {said}");
    };
    std::fs::write(dir.path().join("ca.cnf"), "[req]\ndistinguished_name=d\nx509_extensions=x\nprompt=no\n[d]\nCN=manufacturer\n[x]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n").unwrap();
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout ca.key -out ca.pem -days 30 -config ca.cnf",
    );
    openssl(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout any.key -out any.csr -subj /CN=any",
    );
    let der = |name: &str| {
        let pem = std::fs::read_to_string(dir.path().join(name)).unwrap();
        certificate::to_der(&certificate::from_pem(&pem).unwrap()).unwrap()
    };
    let mut manufacturers = Manufacturers::default();
    manufacturers.believe(&der("ca.pem"), Kind::Hardware).unwrap();
    let names = "subjectAltName=critical,dirName:n\n[n]\na.2.23.133.2.1=id:00001014\na.2.23.133.2.2=moödel\na.2.23.133.2.3=id:0001\n";
    let issued = |extensions: &str| {
        std::fs::write(
            dir.path().join("x.cnf"),
            format!("oid_section=o\n[o]\n[x]\n{extensions}\n{names}"),
        )
        .unwrap();
        openssl(
            "x509 -req -in any.csr -CA ca.pem -CAkey ca.key -CAcreateserial -force_pubkey ek.pem -days 10 -extfile x.cnf -extensions x -out ek.crt",
        );
        manufacturers.verify(&key, &[der("ek.crt")], now_s()).map(|e| e.model)
    };
    let purpose = "extendedKeyUsage=2.23.133.8.1";
    let good =
        format!("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyAgreement\n{purpose}");
    assert_eq!(issued(&good).unwrap(), "model", "unreadable attributes are skipped");
    // Without an extended key usage, it may be for any purpose (RFC 5280, 4.2.1.12).
    assert_eq!(
        issued("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyAgreement").unwrap(),
        "model"
    );
    let late = manufacturers.verify(&key, &[der("ek.crt")], now_s() + 11 * 86_400).unwrap_err();
    assert!(matches!(late, NotEndorsed::Chain(_)), "{late}: it has expired");
    let not_one = |extensions: &str, what: &str| {
        let refused = issued(extensions).unwrap_err();
        assert!(
            matches!(refused, NotEndorsed::NotOne(_) | NotEndorsed::Unreadable(_)),
            "{what}: {refused}"
        );
    };
    not_one(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyAgreement\nextendedKeyUsage=clientAuth",
        "another purpose",
    );
    not_one(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyAgreement\nextendedKeyUsage=DER:3000",
        "an empty list of purposes",
    );
    not_one(
        &format!("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyAgreement\n{purpose}"),
        "a CA",
    );
    not_one(
        &format!(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n{purpose}"
        ),
        "another usage",
    );
}
