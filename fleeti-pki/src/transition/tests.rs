use super::*;
use crate::certificate::{Period, Role, self_signed};
use crate::signer::{Algorithm, SoftKey};
use crate::transparency::note::Checkpoint;

fn p384() -> SoftKey {
    SoftKey::generate(Algorithm::P384).unwrap()
}
fn root_of(key: &SoftKey) -> Certificate {
    self_signed(Role::Root, Period::starting(1_795_000_000, 86_400), key).unwrap()
}
fn keys(of: &[&SoftKey], threshold: usize) -> ReleaseKeys {
    ReleaseKeys::new(of.iter().map(|k| PublicKey::of(*k).unwrap()).collect(), threshold).unwrap()
}
fn log() -> (SoftKey, LogKey) {
    let key = SoftKey::generate(Algorithm::Ed25519).unwrap();
    let log = LogKey::of("fleeti/test/log", &key).unwrap();
    (key, log)
}
fn signed(change: Change, by: &[&SoftKey]) -> SignedTransition {
    let signers: Vec<&dyn Signer> = by.iter().map(|k| *k as &dyn Signer).collect();
    sign(&Transition { kind: KIND.into(), issued_s: 5, change }, &signers).unwrap()
}
fn next_keys(from: &ReleaseKeys, to: &ReleaseKeys) -> Change {
    Change::ReleaseKeys {
        from_sha256: release_keys_sha256(from).unwrap(),
        to_pem: to.to_pem().unwrap(),
    }
}

/// Two roots, two sets of release keys and one log key later, with the transitions in any order.
#[test]
fn a_device_walks_from_the_anchors_of_its_image_to_those_of_today() {
    let (r0, r1, r2, k0, k1, k2) = (p384(), p384(), p384(), p384(), p384(), p384());
    let roots = [&r0, &r1, &r2].map(root_of);
    let releases = [keys(&[&k0], 1), keys(&[&k1], 1), keys(&[&k1, &k2], 2)];
    let ((_, a), (_, b)) = (log(), log());
    let log_key = Change::LogKey { from: a.to_text(), to: b.to_text() };
    let mut all = vec![
        root(&Authority { certificate: &roots[0], signer: &r0 }, &roots[1], false, 1).unwrap(),
        root(&Authority { certificate: &roots[1], signer: &r1 }, &roots[2], true, 2).unwrap(),
        signed(next_keys(&releases[0], &releases[1]), &[&k0]),
        signed(next_keys(&releases[1], &releases[2]), &[&k1]),
        signed(log_key, &[&k1, &k2]),
    ];
    for _ in 0..all.len() {
        all.rotate_left(1);
        let image = Anchors::of_image(roots[0].clone(), releases[0].clone(), a.clone());
        let (today, applied) = image.walk(&all);
        assert_eq!(applied.len(), all.len());
        assert_eq!(
            today.roots(),
            [roots[0].clone(), roots[2].clone()],
            "the one in the middle was ended"
        );
        assert_eq!((today.release_keys().threshold(), today.log()), (2, &b));
        // A later image ignores the transitions before its anchors.
        let image = Anchors::of_image(roots[2].clone(), releases[1].clone(), a.clone());
        let (today, applied) = image.walk(&all);
        assert_eq!((applied.len(), today.roots().len(), today.log()), (2, 1, &b));
    }
}

#[test]
fn what_the_anchors_of_the_image_have_not_signed_leads_nowhere() {
    let (r0, r1, k0, k1, mallory) = (p384(), p384(), p384(), p384(), p384());
    let (root0, root1, evil) = (root_of(&r0), root_of(&r1), root_of(&mallory));
    let (old, new) = (keys(&[&k0, &k1], 2), keys(&[&mallory], 1));
    let ((log_key, a), (_, b)) = (log(), log());
    let change = |root: &Certificate| Change::Root {
        from_sha256: fingerprint(&root0).unwrap(),
        to_pem: to_pem(root).unwrap(),
        ends_previous: true,
    };
    let note = a
        .sign(&Checkpoint { origin: a.name().into(), size: 3, root: [1; 32] }, 9, &log_key)
        .unwrap();
    let to_b = || Change::LogKey { from: a.to_text(), to: b.to_text() };
    let mut changed =
        root(&Authority { certificate: &root0, signer: &r0 }, &root1, true, 1).unwrap();
    changed.transition = changed.transition.replace("true", "false");
    let mut twice = signed(to_b(), &[&k0]);
    let again = twice.signatures[0].clone();
    twice.signatures.push(again);
    for bad in [
        signed(change(&evil), &[&mallory]),
        signed(change(&evil), &[&k0, &k1]),
        changed,
        signed(next_keys(&old, &new), &[&k0]),
        signed(next_keys(&old, &new), &[&mallory]),
        signed(next_keys(&new, &new), &[&k0, &k1]),
        signed(to_b(), &[&r0]),
        twice,
        signed(Change::LogReset { log: a.to_text(), checkpoint: note.clone() }, &[&k1]),
        SignedTransition { transition: "{}".into(), signatures: vec![] },
    ] {
        let image = Anchors::of_image(root0.clone(), old.clone(), a.clone());
        let (today, applied) = image.walk(std::slice::from_ref(&bad));
        assert!(applied.is_empty(), "{bad:?}");
        assert_eq!(
            (today.roots(), today.log(), today.reset().is_none()),
            (&[root0.clone()][..], &a, true)
        );
    }
    assert!(root(&Authority { certificate: &root0, signer: &mallory }, &evil, true, 1).is_err());
    // A signed reset contains a checkpoint of the log itself.
    let reset = |log: &LogKey| Transition {
        kind: KIND.into(),
        issued_s: 7,
        change: Change::LogReset { log: log.to_text(), checkpoint: note.clone() },
    };
    assert!(sign(&reset(&b), &[&k0]).is_err());
    let mut good = sign(&reset(&a), &[&k0]).unwrap();
    sign_too(&mut good, &k1).unwrap();
    let (today, _) = Anchors::of_image(root0, old, a).walk(&[good]);
    assert_eq!(today.reset().unwrap().checkpoint.checkpoint().size, 3);
}

fn moved(from: &str, to: &str) -> Change {
    let (https_url, mqtt_address) = (format!("https://{to}:8443"), format!("{to}:8883"));
    Change::Server(ServerMove {
        from: format!("https://{from}:8443"),
        https_url,
        mqtt_address,
        proxy: None,
    })
}

#[test]
fn an_address_counts_that_the_release_keys_of_the_way_have_signed() {
    let (r0, k0, k1, mallory) = (p384(), p384(), p384(), p384());
    let (old, new) = (keys(&[&k0], 1), keys(&[&k1], 1));
    let all = [
        signed(next_keys(&old, &new), &[&k0]),
        signed(moved("a", "b"), &[&k0]),
        signed(moved("b", "c"), &[&k1]),
        signed(moved("a", "evil"), &[&mallory]),
        signed(moved("a", "evil"), &[&r0]),
    ];
    let (today, applied) = Anchors::of_image(root_of(&r0), old, log().1).walk(&all);
    assert_eq!(applied, [all[1].clone(), all[0].clone(), all[2].clone()]);
    assert_eq!(
        today.moves().iter().map(|(_, m)| m.mqtt_address.as_str()).collect::<Vec<_>>(),
        ["b:8883", "c:8883"]
    );
}

#[test]
fn an_address_is_a_host_and_a_port_and_nothing_else() {
    let Change::Server(good) = moved("a", "b") else { unreachable!() };
    let sign = |m: ServerMove| {
        super::sign(
            &Transition { kind: KIND.into(), issued_s: 5, change: Change::Server(m) },
            &[&p384() as &dyn Signer],
        )
    };
    sign(ServerMove { proxy: Some("http://p:1".into()), ..good.clone() }).unwrap();
    for bad in
        ["", "http://b", "https://", "https://b/x", "https://u@b", "https://b\n", "https://b?x"]
    {
        assert!(sign(ServerMove { https_url: bad.into(), ..good.clone() }).is_err(), "{bad:?}");
        assert!(sign(ServerMove { from: bad.into(), ..good.clone() }).is_err(), "{bad:?}");
    }
    for bad in ["", "b", ":1", "b:x", "b:99999", "b c:1"] {
        assert!(sign(ServerMove { mqtt_address: bad.into(), ..good.clone() }).is_err(), "{bad:?}");
    }
    assert!(sign(ServerMove { proxy: Some("socks://p:1".into()), ..good.clone() }).is_err());
    assert!(
        sign(ServerMove { https_url: format!("https://{}", "b".repeat(400)), ..good }).is_err()
    );
}

#[test]
fn a_circle_of_anchors_ends() {
    let (k0, k1) = (p384(), p384());
    let (one, other) = (keys(&[&k0], 1), keys(&[&k1], 1));
    let circle = [signed(next_keys(&one, &other), &[&k0]), signed(next_keys(&other, &one), &[&k1])];
    let (today, applied) = Anchors::of_image(root_of(&k0), one.clone(), log().1).walk(&circle);
    assert_eq!((applied.len(), today.release_keys().to_pem().unwrap()), (2, one.to_pem().unwrap()));
}

fn ring(from: &[&[u8]], to: &[u8]) -> Change {
    let from_sha256 = from.iter().map(|keyring| sha256_hex(keyring)).collect();
    Change::OpenpgpKeys { from_sha256, to_base64: base64_text(to) }
}

/// The keyring that an image with this keyring gets.
fn keyring_of_image(image: &[u8], keys: &ReleaseKeys, all: &[SignedTransition]) -> Option<Vec<u8>> {
    let image = Anchors::of_image(root_of(&p384()), keys.clone(), log().1).with_keyring(image);
    image.walk(all).0.keyring().map(<[u8]>::to_vec)
}

#[test]
fn of_the_keyrings_that_follow_an_images_the_newest_counts_whatever_the_order() {
    let (k0, k1) = (p384(), p384());
    let keys = keys(&[&k0, &k1], 2);
    let at = |issued_s, change| {
        sign(&Transition { kind: KIND.into(), issued_s, change }, &[&k0, &k1]).unwrap()
    };
    let mut all = vec![
        at(5, ring(&[b"lost"], b"first")),
        at(9, ring(&[b"first"], b"third")),
        at(7, ring(&[b"lost", b"lost+spare"], b"second")),
    ];
    for _ in 0..all.len() {
        all.rotate_left(1);
        assert_eq!(keyring_of_image(b"lost", &keys, &all).unwrap(), b"third");
        assert_eq!(
            keyring_of_image(b"lost+spare", &keys, &all).unwrap(),
            b"second",
            "nothing led on from it"
        );
        assert_eq!(
            keyring_of_image(b"third", &keys, &all),
            None,
            "an image of today is led nowhere"
        );
        assert_eq!(keyring_of_image(b"newer", &keys, &all), None, "nor is one of after that");
    }
    let anchors = Anchors::of_image(root_of(&k0), keys, log().1);
    assert!(
        anchors.walk(&all).1.is_empty(),
        "an image without a keyring has none that could be replaced"
    );
}

#[test]
fn a_keyring_that_too_few_release_keys_have_signed_or_others_takes_no_place() {
    let (k0, k1, root, mallory) = (p384(), p384(), p384(), p384());
    let keys = keys(&[&k0, &k1], 2);
    let change = || ring(&[b"lost"], b"next");
    let mut twice = signed(change(), &[&k0]);
    twice.signatures.push(twice.signatures[0].clone());
    let mut changed = signed(change(), &[&k0, &k1]);
    changed.transition = changed.transition.replace(&base64_text(b"next"), &base64_text(b"evil"));
    let unsigned = SignedTransition { transition: changed.transition.clone(), signatures: vec![] };
    for bad in [
        signed(change(), &[&k0]),
        signed(change(), &[&root]),
        signed(change(), &[&mallory, &k1]),
        twice,
        changed,
        unsigned,
    ] {
        assert_eq!(keyring_of_image(b"lost", &keys, std::slice::from_ref(&bad)), None, "{bad:?}");
    }
    assert_eq!(
        keyring_of_image(b"lost", &keys, &[signed(change(), &[&k0, &k1])]).unwrap(),
        b"next"
    );
    // Transitions with an invalid keyring cannot be signed.
    for bad in [
        ring(&[], b"next"),
        ring(&[b"lost"], b""),
        ring(&vec![&b"lost"[..]; KEYRINGS_MAX + 1], b"next"),
    ] {
        assert!(sign(&Transition { kind: KIND.into(), issued_s: 5, change: bad }, &[&k0]).is_err());
    }
}
