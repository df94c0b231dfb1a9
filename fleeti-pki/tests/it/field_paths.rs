//! Certificate paths from a TPM to its manufacturer: what CA certificates may and may not do, and
//! which path is found if there are several.

use crate::field::{believing, verify};
use crate::issued::{
    ALWAYS, ANY_POLICY, Draft, EK, Issuer, attribute, basic_constraints, common_name, extension,
    key_usage, name, new_key, oid, policies, purposes, sequence, tlv,
};
use crate::now_s;
use fleeti_pki::signer::{Algorithm, Signer};
use fleeti_pki::tpm::endorsement::{Kind, Manufacturers, NotEndorsed};

/// The result for a path through one intermediate CA, with these additional extensions of it and of
/// the endorsement certificate.
pub fn through(between: &[Vec<u8>], leaf: &[Vec<u8>]) -> Result<String, NotEndorsed> {
    through_both(&[between], leaf)
}

/// The same through each of these intermediate CAs, the highest first.
fn through_both(between: &[&[Vec<u8>]], leaf: &[Vec<u8>]) -> Result<String, NotEndorsed> {
    let root = Issuer::new(&common_name("root"));
    let (key, root_certificate) = (new_key(Algorithm::P256), root.root());
    let (mut issuer, mut chain) = (root, vec![]);
    for (at, extensions) in between.iter().enumerate() {
        let next = Issuer::new(&common_name(&format!("between {at}")));
        let mut draft = Draft::authority(&next.name, next.key.public_key_der());
        draft.extensions.extend(extensions.iter().cloned());
        chain.insert(0, draft.by(&issuer));
        issuer = next;
    }
    let mut draft = Draft::endorsement(&key);
    draft.extensions.extend(leaf.iter().cloned());
    chain.insert(0, draft.by(&issuer));
    verify(&root_certificate, &key, &chain)
}

fn policy_constraints(explicit: Option<u8>, mapping: Option<u8>) -> Vec<u8> {
    let field = |tag: u8, n: Option<u8>| n.map(|n| tlv(tag, &[n])).unwrap_or_default();
    extension("2.5.29.36", true, &sequence(&[&field(0x80, explicit), &field(0x81, mapping)]))
}

fn mapping(from: &str, to: &str) -> Vec<u8> {
    extension("2.5.29.33", true, &sequence(&[&sequence(&[&oid(from), &oid(to)])]))
}

fn inhibit_any(after: u8) -> Vec<u8> {
    extension("2.5.29.54", true, &tlv(2, &[after]))
}

const ONE: &str = "1.3.6.1.4.1.5771.1";
const TWO: &str = "1.3.6.1.4.1.5771.2";

/// A name, the extensions of the intermediate CAs, and those of the certificate itself.
type Chain<'a> = (&'a str, &'a [&'a [Vec<u8>]], &'a [Vec<u8>]);

#[test]
fn policies_are_their_issuers_matter_until_one_asks_for_them() {
    let asks = |after: u8| policy_constraints(Some(after), None);
    let good: [Chain<'_>; 10] = [
        ("critical, any", &[&[policies(true, &[ANY_POLICY])]], &[]),
        (
            "critical, one, and another below it",
            &[&[policies(true, &[ONE])]],
            &[policies(true, &[TWO])],
        ),
        ("below a CA without one", &[&[]], &[policies(true, &[ONE])]),
        ("required and present", &[&[policies(true, &[ONE]), asks(0)]], &[policies(false, &[ONE])]),
        (
            "required, any-policy above and one below",
            &[&[policies(true, &[ANY_POLICY]), asks(0)]],
            &[policies(true, &[ONE])],
        ),
        (
            "required, one above and any-policy below",
            &[&[policies(true, &[ONE]), asks(0)]],
            &[policies(true, &[ANY_POLICY])],
        ),
        (
            "mapped",
            &[&[policies(true, &[ONE]), mapping(ONE, TWO), asks(0)]],
            &[policies(true, &[TWO])],
        ),
        (
            "mapped from any-policy",
            &[&[policies(true, &[ANY_POLICY]), mapping(ONE, TWO), asks(0)]],
            &[policies(true, &[TWO])],
        ),
        ("required only after the end of the path", &[&[asks(9)]], &[]),
        (
            "any-policy is inhibited, and one is present",
            &[&[policies(true, &[ONE]), inhibit_any(0), asks(0)]],
            &[policies(true, &[ONE])],
        ),
    ];
    for (what, between, leaf) in good {
        assert_eq!(through_both(between, leaf).as_deref(), Ok("MODEL"), "{what}");
    }
    let bad: [Chain<'_>; 10] = [
        ("required, and none below", &[&[policies(true, &[ANY_POLICY]), asks(0)]], &[]),
        ("required, and none above", &[&[asks(0)]], &[policies(true, &[ONE])]),
        (
            "required, and another below",
            &[&[policies(true, &[ONE]), asks(0)]],
            &[policies(true, &[TWO])],
        ),
        (
            "required by the leaf itself",
            &[&[policies(true, &[ONE])]],
            &[policies(true, &[TWO]), asks(0)],
        ),
        (
            "mapped, and the old one below",
            &[&[policies(true, &[ONE]), mapping(ONE, TWO), asks(0)]],
            &[policies(true, &[ONE])],
        ),
        (
            "any-policy is inhibited",
            &[&[policies(true, &[ONE]), inhibit_any(0), asks(0)]],
            &[policies(true, &[ANY_POLICY])],
        ),
        (
            "any-policy is mapped",
            &[&[policies(true, &[ANY_POLICY]), mapping(ANY_POLICY, ONE)]],
            &[],
        ),
        (
            "mapping is inhibited",
            &[
                &[policies(true, &[ONE]), policy_constraints(Some(0), Some(0))],
                &[policies(true, &[ONE]), mapping(ONE, TWO)],
            ],
            &[policies(true, &[TWO])],
        ),
        (
            "required after one more",
            &[&[policies(true, &[ANY_POLICY]), asks(1)], &[policies(true, &[ANY_POLICY])]],
            &[],
        ),
        ("unreadable", &[&[extension("2.5.29.32", true, &[0x30, 1])]], &[]),
    ];
    for (what, between, leaf) in bad {
        let refused = through_both(between, leaf).unwrap_err();
        assert!(
            matches!(&refused, NotEndorsed::Chain(e) if e.contains("polic")),
            "{what}: {refused}"
        );
    }
}

fn name_constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let subtrees = |tag: u8, bases: &[Vec<u8>]| match bases {
        [] => vec![],
        bases => tlv(tag, &bases.iter().flat_map(|base| sequence(&[base])).collect::<Vec<_>>()),
    };
    extension(
        "2.5.29.30",
        true,
        &[tlv(0x30, &[subtrees(0xa0, permitted), subtrees(0xa1, excluded)].concat())].concat(),
    )
}

#[test]
fn an_authority_certifies_the_names_that_it_may() {
    let directory = |parts: &[(&str, &str)]| tlv(0xa4, &name(parts));
    let (ours, other) = ([("2.23.133.2.1", "id:53544D20")], [("2.23.133.2.1", "id:00000000")]);
    type Constraints<'a> = (&'a [Vec<u8>], &'a [Vec<u8>]);
    let good: [Constraints<'_>; 5] = [
        (&[directory(&ours)], &[]),
        (&[directory(&other), directory(&ours)], &[]),
        (&[directory(&[])], &[]),
        (&[tlv(0x82, b"example.com")], &[tlv(0x86, b".example.com")]),
        (&[], &[directory(&other)]),
    ];
    for (permitted, excluded) in good {
        assert_eq!(through(&[name_constraints(permitted, excluded)], &[]).as_deref(), Ok("MODEL"));
    }
    for (permitted, excluded) in [
        (vec![directory(&other)], vec![]),
        (vec![], vec![directory(&ours)]),
        (vec![directory(&ours)], vec![directory(&[])]),
    ] {
        let refused = through(&[name_constraints(&permitted, &excluded)], &[]).unwrap_err();
        assert!(
            matches!(&refused, NotEndorsed::Chain(e) if e.contains("name constraints")),
            "{refused}"
        );
    }
    // Also those of the trusted certificate, and of a CA further up.
    let refused =
        through_both(&[&[name_constraints(&[directory(&other)], &[])], &[]], &[]).unwrap_err();
    assert!(
        matches!(&refused, NotEndorsed::Chain(e) if e.contains("name constraints")),
        "{refused}"
    );
}

#[test]
fn an_extension_is_known_or_harmless() {
    const PRIVATE: &str = "1.3.6.1.4.1.99999.1";
    let null = [5, 0];
    assert_eq!(
        through(&[extension(PRIVATE, false, &null)], &[extension(PRIVATE, false, &null)])
            .as_deref(),
        Ok("MODEL")
    );
    let uri = tlv(0x86, b"http://example.com/a list?x=%zz");
    let odd_points = [
        sequence(&[&sequence(&[&tlv(0xa0, &tlv(0xa0, &uri))])]),
        sequence(&[&sequence(&[&tlv(0xa0, &tlv(0xa1, &attribute("2.5.4.3", 0x13, b"x")))])]),
        sequence(&[]),
        null.to_vec(),
    ];
    for points in &odd_points {
        for critical in [false, true] {
            let list = extension("2.5.29.31", critical, points);
            assert_eq!(
                through(std::slice::from_ref(&list), std::slice::from_ref(&list)).as_deref(),
                Ok("MODEL")
            );
        }
    }
    for id in [
        "1.3.6.1.5.5.7.1.1",
        "2.5.29.9",
        "2.5.29.14",
        "2.5.29.35",
        "2.5.29.18",
        "2.5.29.46",
        "2.5.29.16",
    ] {
        assert_eq!(through(&[], &[extension(id, true, &null)]).as_deref(), Ok("MODEL"), "{id}");
    }
    for (between, leaf) in [
        (vec![extension(PRIVATE, true, &null)], vec![]),
        (vec![], vec![extension(PRIVATE, true, &null)]),
    ] {
        let refused = through(&between, &leaf).unwrap_err();
        assert!(matches!(&refused, NotEndorsed::Chain(e) if e.contains(PRIVATE)), "{refused}");
    }
    let twice = vec![extension(PRIVATE, false, &null); 2];
    assert!(matches!(through(&[], &twice).unwrap_err(), NotEndorsed::Unreadable(_)));
}

#[test]
fn an_authority_between_is_one() {
    let path = |change: &dyn Fn(&mut Draft)| {
        let (root, between, key) = (
            Issuer::new(&common_name("root")),
            Issuer::new(&common_name("between")),
            new_key(Algorithm::P256),
        );
        let mut draft = Draft::authority(&between.name, between.key.public_key_der());
        change(&mut draft);
        verify(&root.root(), &key, &[Draft::endorsement(&key).by(&between), draft.by(&root)])
    };
    assert_eq!(path(&|_| {}).as_deref(), Ok("MODEL"));
    assert_eq!(
        path(&|d| d.extensions = vec![basic_constraints(true, Some(0))]).as_deref(),
        Ok("MODEL"),
        "no key usage"
    );
    assert_eq!(path(&|d| d.extensions.push(purposes(&[EK]))).as_deref(), Ok("MODEL"));
    assert_eq!(path(&|d| d.extensions.push(purposes(&["2.5.29.37.0"]))).as_deref(), Ok("MODEL"));
    type Change = dyn Fn(&mut Draft);
    let bad: [(&str, &Change); 6] = [
        ("not a CA", &|d| d.extensions = vec![basic_constraints(false, None)]),
        ("no basic constraints", &|d| d.extensions.clear()),
        ("may not sign certificates", &|d| {
            d.extensions = vec![basic_constraints(true, None), key_usage(0x80)]
        }),
        ("for other purposes", &|d| d.extensions.push(purposes(&["1.3.6.1.5.5.7.3.1"]))),
        ("expired", &|d| {
            d.validity = sequence(&[&tlv(0x17, ALWAYS[0]), &tlv(0x17, b"020101000000Z")])
        }),
        ("of version 1", &|d| d.version.clear()),
    ];
    for (what, change) in bad {
        assert!(matches!(path(change).unwrap_err(), NotEndorsed::Chain(_)), "{what}");
    }
    let length = [basic_constraints(true, Some(0)), key_usage(4)];
    let refused = {
        let (root, first, second) = (
            Issuer::new(&common_name("r")),
            Issuer::new(&common_name("a")),
            Issuer::new(&common_name("b")),
        );
        let key = new_key(Algorithm::P256);
        let mut draft = Draft::authority(&first.name, first.key.public_key_der());
        draft.extensions = length.to_vec();
        let below = Draft::authority(&second.name, second.key.public_key_der()).by(&first);
        verify(&root.root(), &key, &[Draft::endorsement(&key).by(&second), below, draft.by(&root)])
            .unwrap_err()
    };
    assert!(matches!(&refused, NotEndorsed::Chain(e) if e.contains("more CAs")), "{refused}");
}

#[test]
fn a_way_that_leads_nowhere_keeps_no_other_from_being_found() {
    let (root, key) = (Issuer::new(&common_name("root")), new_key(Algorithm::P256));
    let between = Issuer::new(&common_name("between"));
    let usual = Draft::authority(&between.name, between.key.public_key_der());
    let expired = Draft {
        validity: sequence(&[&tlv(0x17, ALWAYS[0]), &tlv(0x17, b"020101000000Z")]),
        ..usual.clone()
    };
    let stranger = Issuer::new(&between.name);
    let leaf = Draft::endorsement(&key).by(&between);
    let chain = [leaf.clone(), stranger.root(), expired.by(&root), vec![0x30, 0], usual.by(&root)];
    assert_eq!(verify(&root.root(), &key, &chain).as_deref(), Ok("MODEL"));
    // Nor through other manufacturers with the same name; and a cycle of issuers leads nowhere.
    let manufacturers = believing(&[Issuer::new(&root.name).root(), root.root()]);
    assert!(manufacturers.verify(&key, &chain, now_s()).is_ok());
    let (a, b) = (Issuer::new(&common_name("a")), Issuer::new(&common_name("b")));
    let circle = [
        Draft::endorsement(&key).by(&a),
        Draft::authority(&a.name, a.key.public_key_der()).by(&b),
        Draft::authority(&b.name, b.key.public_key_der()).by(&a),
    ];
    let refused = manufacturers.verify(&key, &circle, now_s()).unwrap_err();
    assert!(
        matches!(&refused, NotEndorsed::Chain(e) if e.contains("no certificate of its issuer is known")),
        "{refused}"
    );
}

#[test]
fn a_root_of_version_1_is_one_if_it_signed_itself() {
    let (root, key) = (Issuer::new(&common_name("root")), new_key(Algorithm::P256));
    let mut old = Draft::new(&root.name, root.key.public_key_der(), &[]);
    old.version.clear();
    assert_eq!(
        verify(&old.by(&root), &key, &[Draft::endorsement(&key).by(&root)]).as_deref(),
        Ok("MODEL")
    );
    let stranger = Issuer::new(&root.name);
    assert!(
        Manufacturers::default().believe(&old.by(&stranger), Kind::Hardware).is_err(),
        "by another key"
    );
    assert!(
        Manufacturers::default()
            .believe(
                &Draft::new(&root.name, root.key.public_key_der(), &[]).by(&root),
                Kind::Hardware
            )
            .is_err()
    );
}
