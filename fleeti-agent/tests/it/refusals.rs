//! What daemon, helper or systemd-sysupdate refuse, and that the next attempt succeeds.

use crate::bench::Bench;
use crate::faulty_server::FaultyServer;
use fleeti_agent::privileged::staging::{arm, arm_previous, check_manifest, check_previous};
use fleeti_agent::proxy::Proxy;
use fleeti_core::update::FailureCode;
use fleeti_pki::openpgp::OpenPgpKey;
use fleeti_pki::signer::{Algorithm, SoftKey};

/// Stages `kiosk@2` from a server that does `harm`, then again from a correct one.
async fn refused_then_accepted(harm: impl FnOnce(&FaultyServer, &Bench, &str), words: &str) {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let release = bench.publish(&server, "bad", "2");
    harm(&server, &bench, &format!("bad/raw/{}", release.root_name));
    let (code, detail) = bench.stage(&release, &server.proxy_like("bad/raw")).await.unwrap_err();
    assert_eq!(code, FailureCode::StageFailed);
    assert!(detail.contains(words), "{detail}");
    bench.assert_untouched();
    let release = bench.publish(&server, "good", "2");
    bench.stage(&release, &server.proxy_like("good/raw")).await.unwrap();
    bench.assert_staged(&release, "2");
}

#[tokio::test]
async fn a_list_without_signature_is_refused() {
    refused_then_accepted(|server, _, _| server.remove("bad/raw/SHA256SUMS.gpg"), "signature")
        .await;
}

#[tokio::test]
async fn a_list_signed_by_another_key_is_refused() {
    let harm = |server: &FaultyServer, _: &Bench, _: &str| {
        let sums = server.get("bad/raw/SHA256SUMS");
        server.put(
            "bad/raw/SHA256SUMS.gpg",
            OpenPgpKey::new(Box::new(SoftKey::generate(Algorithm::P256).unwrap()))
                .unwrap()
                .sign(&sums)
                .unwrap(),
        );
    };
    refused_then_accepted(harm, "DOWNLOAD INVALID").await;
}

#[tokio::test]
async fn a_tampered_list_is_refused() {
    let harm = |server: &FaultyServer, _: &Bench, _: &str| {
        let mut sums = server.get("bad/raw/SHA256SUMS");
        sums[0] = if sums[0] == b'0' { b'1' } else { b'0' };
        server.put("bad/raw/SHA256SUMS", sums);
    };
    refused_then_accepted(harm, "DOWNLOAD INVALID").await;
}

#[tokio::test]
async fn a_tampered_payload_is_refused() {
    let harm = |server: &FaultyServer, _: &Bench, root: &str| {
        let mut bytes = server.get(root);
        bytes[1_000_000] ^= 1;
        server.put(root, bytes);
    };
    refused_then_accepted(harm, "tampered").await;
}

#[tokio::test]
async fn a_download_that_ends_early_is_refused() {
    refused_then_accepted(|server, _, root| server.cut(root, 500_000, 1), "").await;
}

#[tokio::test]
async fn a_tampered_manifest_is_refused_before_systemd_sysupdate_starts() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let mut release = bench.publish(&server, "r", "2");
    let good = release.manifest.clone();
    release.manifest = good.replace("kiosk@2", "kiosk@9");
    let (code, _) = bench.stage(&release, &server.proxy_like("r/raw")).await.unwrap_err();
    assert_eq!(code, FailureCode::ManifestUntrusted);
    release.signatures.clear();
    release.manifest = good;
    let (code, detail) = bench.stage(&release, &server.proxy_like("r/raw")).await.unwrap_err();
    assert_eq!(code, FailureCode::ManifestUntrusted);
    assert!(detail.contains("0 of 1"), "{detail}");
    assert!(server.requests().is_empty());
    bench.assert_untouched();
}

#[tokio::test]
async fn an_older_version_is_refused_by_the_agent_and_by_the_image() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let old = bench.publish(&server, "old", "0.9");
    let url = server.proxy_like("old/raw");
    assert_eq!(bench.stage(&old, &url).await.unwrap_err().0, FailureCode::TooOld);
    assert!(server.requests().is_empty());
    // A helper without its minimum version: MinVersion= in the image's own definitions refuses as
    // well.
    std::fs::write(&bench.paths.os_release, "ID=fleeti\nIMAGE_ID=kiosk\nIMAGE_VERSION=0.1\n")
        .unwrap();
    std::fs::write(
        bench.paths.lib.join("image.json"),
        r#"{"minimum_version":"0","hostname":"x","health_checks":[]}"#,
    )
    .unwrap();
    let (code, detail) = bench.stage(&old, &url).await.unwrap_err();
    assert_eq!(code, FailureCode::StageFailed);
    assert!(detail.contains("obsolete"), "{detail}");
    bench.assert_untouched();
}

#[tokio::test]
async fn another_image_line_and_a_url_off_the_loopback_are_refused() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let release = bench.publish(&server, "r", "2");
    let secret = "0".repeat(64);
    for url in [
        format!("http://192.0.2.1/{secret}/"),
        format!("https://127.0.0.1:1/{secret}/"),
        format!("http://127.0.0.1:1@192.0.2.1/{secret}/"),
        format!("http://127.0.0.1:99999/{secret}/"),
        format!("http://127.0.0.1:1/{secret}"),
        format!("http://127.0.0.1:1/{secret}/x/"),
        "http://127.0.0.1:1/%m/".to_owned(),
        "file:///x/".to_owned(),
    ] {
        let (code, detail) = bench.stage(&release, &url).await.unwrap_err();
        assert_eq!(code, FailureCode::StageFailed, "{url}");
        assert!(detail.contains("loopback"), "{url}: {detail}");
    }
    std::fs::write(&bench.paths.os_release, "ID=fleeti\nIMAGE_ID=gateway\nIMAGE_VERSION=1\n")
        .unwrap();
    assert_eq!(
        bench.stage(&release, &server.proxy_like("r/raw")).await.unwrap_err().0,
        FailureCode::WrongImage
    );
    bench.assert_untouched();
}

#[tokio::test]
async fn a_server_that_goes_away_in_the_middle_is_resumed_through_the_proxy() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let release = bench.publish(&server, "r", "2");
    server.cut(&format!("r/raw/{}", release.root_name), 700_000, 3);
    let verified = check_manifest(&bench.paths, &release.manifest, &release.signatures).unwrap();
    let proxy = Proxy::start(reqwest::Client::new(), format!("{}/r", server.url), verified, None)
        .await
        .unwrap();
    bench.stage(&release, &proxy.url).await.unwrap();
    bench.assert_staged(&release, "2");
    assert_eq!(proxy.progress().done, proxy.progress().total);
    let fetched = server.requests().iter().filter(|r| r.ends_with(".root")).count();
    assert_eq!(fetched, 4, "three cuts, four requests, no byte twice");
}

#[tokio::test]
async fn the_proxy_serves_only_the_verified_release_and_only_below_its_secret_path() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let release = bench.publish(&server, "r", "2");
    server.put("r/raw/secret", b"x".to_vec());
    let verified = check_manifest(&bench.paths, &release.manifest, &release.signatures).unwrap();
    let proxy = Proxy::start(reqwest::Client::new(), format!("{}/r", server.url), verified, None)
        .await
        .unwrap();
    let base = proxy.url.rsplitn(3, '/').last().unwrap();
    for url in [
        format!("{}secret", proxy.url),
        format!("{base}/SHA256SUMS"),
        format!("{}../raw/SHA256SUMS", proxy.url),
    ] {
        assert_eq!(reqwest::get(&url).await.unwrap().status(), 404, "{url}");
    }
    assert_eq!(reqwest::get(format!("{}SHA256SUMS", proxy.url)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn only_what_was_staged_and_is_as_signed_can_be_armed() {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let release = bench.publish(&server, "r", "2");
    let verified = check_manifest(&bench.paths, &release.manifest, &release.signatures).unwrap();
    assert!(arm(&bench.paths, &verified).is_err(), "nothing is staged");
    bench.stage(&release, &server.proxy_like("r/raw")).await.unwrap();
    let staged = bench.paths.esp.join("EFI/Linux/kiosk_2.staged");
    let good = std::fs::read(&staged).unwrap();
    std::fs::remove_file(&staged).unwrap();
    std::fs::write(&staged, b"another kernel").unwrap();
    assert!(arm(&bench.paths, &verified).is_err());
    assert_eq!(
        bench.entries(),
        ["kiosk_1.efi"],
        "a UKI that differs from the signed one is deleted"
    );
    std::fs::write(&staged, good).unwrap();
    arm(&bench.paths, &verified).unwrap();
    arm(&bench.paths, &verified).unwrap(); // after a power cut
    assert_eq!(bench.entries(), ["kiosk_1.efi", "kiosk_2+3-0.efi"]);
}

#[tokio::test]
async fn a_device_goes_back_only_to_the_kept_image_of_its_other_slot_and_keeps_its_own_to_return_to()
 {
    let (mut bench, server) = (Bench::new(), FaultyServer::start());
    let release = bench.publish(&server, "r", "2");
    let back = |bench: &Bench| check_previous(&bench.paths, &release.manifest, &release.signatures);
    assert_eq!(back(&bench).unwrap_err().0, FailureCode::TooOld, "it is newer than what runs");
    let verified = check_manifest(&bench.paths, &release.manifest, &release.signatures).unwrap();
    bench.stage(&release, &server.proxy_like("r/raw")).await.unwrap();
    arm(&bench.paths, &verified).unwrap();
    // It was kept, and version 3 after it.
    let folder = bench.paths.esp.join("EFI/Linux");
    let rename =
        |from: &str, to: &str| std::fs::rename(folder.join(from), folder.join(to)).unwrap();
    rename("kiosk_2+3-0.efi", "kiosk_2.efi");
    rename("kiosk_1.efi", "kiosk_3.efi");
    std::fs::write(&bench.paths.os_release, "ID=fleeti\nIMAGE_ID=kiosk\nIMAGE_VERSION=3\n")
        .unwrap();
    let refused = check_manifest(&bench.paths, &release.manifest, &release.signatures).unwrap_err();
    assert_eq!(refused.0, FailureCode::TooOld, "as an update it is refused");
    let facts = bench.paths.lib.join("image.json");
    let kept = std::fs::read_to_string(&facts).unwrap();
    std::fs::write(&facts, kept.replace(r#""minimum_version":"1""#, r#""minimum_version":"3""#))
        .unwrap();
    assert_eq!(back(&bench).unwrap_err().0, FailureCode::TooOld, "below the minimum version");
    std::fs::write(&facts, kept).unwrap();
    let forged = release.manifest.replace("kiosk@2", "kiosk@1");
    assert!(check_previous(&bench.paths, &forged, &release.signatures).is_err());
    let verified = back(&bench).unwrap();

    let good = std::fs::read(folder.join("kiosk_2.efi")).unwrap();
    std::fs::write(folder.join("kiosk_2.efi"), b"another kernel").unwrap();
    let refused = format!("{:#}", arm_previous(&bench.paths, &verified).unwrap_err());
    assert!(refused.contains("is not its manifest's"), "{refused}");
    std::fs::write(folder.join("kiosk_2.efi"), good).unwrap();
    rename("kiosk_2.efi", "kiosk_2+0-3.efi");
    let refused = format!("{:#}", arm_previous(&bench.paths, &verified).unwrap_err());
    assert!(refused.contains("no boot entry that was kept"), "{refused}");
    rename("kiosk_2+0-3.efi", "kiosk_2.efi");
    rename("kiosk_3.efi", "kiosk_3+2-1.efi");
    let refused = format!("{:#}", arm_previous(&bench.paths, &verified).unwrap_err());
    assert!(refused.contains("on trial itself"), "{refused}");
    rename("kiosk_3+2-1.efi", "kiosk_3.efi");
    assert_eq!(bench.entries(), ["kiosk_2.efi", "kiosk_3.efi"], "nothing was changed");

    arm_previous(&bench.paths, &verified).unwrap();
    arm_previous(&bench.paths, &verified).unwrap(); // after a power cut
    assert_eq!(bench.entries(), ["kiosk_2+3-0.efi", "kiosk_3+0-3.efi"]);
}
