//! Documents of profiles: checked, saved, extended and compared.

use crate::world::World;
use fleeti_client::ClientError;
use fleeti_core::id::Line;
use fleeti_core::profile::Severity;

fn document(name: &str, more: &str) -> String {
    format!("# Kept.\nschema = 1\nname = \"{name}\"\narchitecture = \"x86_64\"\n{more}")
}

#[actix_web::test]
async fn a_document_keeps_its_text_and_gets_what_it_extends() {
    let world = World::new().await;
    let base = document("base", "identity.keyboard = \"de\"\nextends = [\"packages/minimal\"]\n");
    world.client.save_profile_text(&base).await.unwrap();
    let text = document("web", "extends = [\"template/web-server\", \"profile/base\"]\n");
    let saved = world.client.save_profile_text(&text).await.unwrap();
    assert_eq!((saved.number, saved.text.as_deref()), (1, Some(text.as_str())));
    assert_eq!(saved.profile.identity.keyboard, "de", "from another profile of this server");
    assert!(saved.profile.software.packages.contains(&"nginx".to_owned()));

    let again = world.client.save_profile_text(&text).await.unwrap();
    assert_eq!(again.number, 1, "an unchanged document keeps its revision");
    let comment = format!("{text}# A comment.\n");
    let commented = world.client.save_profile_text(&comment).await.unwrap();
    assert_eq!((commented.number, &commented.digest), (2, &saved.digest), "a comment is kept");
    let as_json = world.client.save_profile(&saved.profile).await.unwrap();
    assert_eq!(as_json.number, 2, "the newest revision with this profile");

    // What is saved does not follow later revisions of what it extends.
    let changed = base.replace("\"de\"", "\"fr\"");
    world.client.save_profile_text(&changed).await.unwrap();
    let line: Line = "web".parse().unwrap();
    let kept = fleeti_control::profiles::get(&world.server.control, &line, 1).await.unwrap();
    assert_eq!(kept.profile.identity.keyboard, "de");
    let checked = world.client.check_profile_text(&text).await.unwrap();
    assert_eq!(checked.profile.unwrap().identity.keyboard, "fr");
    let pinned = text.replace("profile/base", "profile/base@1");
    let checked = world.client.check_profile_text(&pinned).await.unwrap();
    assert_eq!(checked.profile.unwrap().identity.keyboard, "de");
}

#[actix_web::test]
async fn a_wrong_document_is_refused_with_every_error_and_saves_nothing() {
    let world = World::new().await;
    let text = document(
        "web",
        "extends = [\"profile/nothing\", \"template/web-servr\"]\nsoftware.packages = [7]\n\
         [[users]]\nname = \"a\"\ngroups = [\"wheel\"]\n",
    );
    let checked = world.client.check_profile_text(&text).await.unwrap();
    let found: Vec<_> =
        checked.findings.iter().map(|f| (f.path.as_str(), f.line, f.severity)).collect();
    assert_eq!(
        found,
        [
            ("extends[0]", 5, Severity::Error),
            ("extends[1]", 5, Severity::Error),
            ("software.packages[0]", 6, Severity::Error),
            ("users[0].groups[0]", 9, Severity::Warning),
        ]
    );
    assert!(checked.profile.is_none());
    assert_eq!(checked.findings[1].remedy, "did you mean template/web-server?");
    let refused = world.client.save_profile_text(&text).await.unwrap_err();
    let ClientError::Refused(problem) = refused else { panic!("{refused}") };
    assert_eq!((problem.status, problem.errors.len()), (422, 3), "warnings are no errors");
    assert!(world.client.profiles().await.unwrap().is_empty());
}

#[actix_web::test]
async fn the_difference_of_two_revisions_says_what_changes_on_devices() {
    let world = World::new().await;
    let line: Line = "web".parse().unwrap();
    world.client.save_profile_text(&document("web", "")).await.unwrap();
    let text = document("web", "extends = [\"services/firewall\", \"services/ssh\"]\n");
    world.client.save_profile_text(&text).await.unwrap();
    let found = world.client.profile_changes(&line, 1, 2).await.unwrap();
    assert!(found.effects.ports_opened.contains("22/tcp"));
    assert!(found.effects.reboot && found.devices == 0);
    assert!(found.changes.iter().any(|c| c.path == "network.firewall.enabled"));
    let none = world.client.profile_changes(&line, 2, 2).await.unwrap();
    assert!(none.changes.is_empty() && !none.effects.reboot);
    assert!(world.client.profile_changes(&line, 1, 9).await.is_err());
}

#[actix_web::test]
async fn the_library_lists_what_a_profile_can_extend() {
    let world = World::new().await;
    world.client.save_profile_text(&document("base", "")).await.unwrap();
    let library = world.client.profile_library().await.unwrap();
    for name in ["packages/server", "baseline/strict", "template/web-server", "profile/base"] {
        let entry = library.iter().find(|entry| entry.name == name).unwrap();
        let text = document("web", &format!("extends = [\"{}\"]\n", entry.name));
        assert!(world.client.check_profile_text(&text).await.unwrap().profile.is_some(), "{name}");
    }
}

#[actix_web::test]
async fn a_wrong_profile_is_refused_with_every_error_at_its_path() {
    let world = World::new().await;
    let text = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";
    let mut profile = fleeti_core::profile::check(text).unwrap();
    profile.kernel.arguments.push("init=/bin/sh".into());
    profile.software.packages.push("No Such".into());
    let Err(fleeti_client::ClientError::Refused(problem)) =
        world.client.save_profile(&profile).await
    else {
        panic!("accepted")
    };
    let paths: Vec<_> = problem.errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!((problem.status, paths), (422, vec!["software.packages[0]", "kernel.arguments[0]"]));
}

#[actix_web::test]
async fn a_revision_says_which_fragments_it_was_made_of_and_which_of_them_are_newer_now() {
    let world = World::new().await;
    let base = document("base", "extends = [\"packages/minimal\"]\n");
    world.client.save_profile_text(&base).await.unwrap();
    let middle = document("middle", "extends = [\"profile/base\"]\n");
    world.client.save_profile_text(&middle).await.unwrap();
    let text = document("web", "extends = [\"profile/middle\", \"profile/base@1\"]\n");
    let saved = world.client.save_profile_text(&text).await.unwrap();
    let of = |revision: &fleeti_core::wire::api::ProfileRevision| -> Vec<_> {
        let each = revision.made_of.iter();
        each.map(|m| format!("{} {:?} {:?}", m.name, m.revision, m.newer)).collect()
    };
    let made_of = [
        "packages/minimal None None",
        "profile/base Some(1) None",
        "profile/middle Some(1) None",
        "profile/base@1 Some(1) None",
    ];
    assert_eq!(of(&saved), made_of);
    let digest = fleeti_core::canonical::sha256_hex(base.as_bytes());
    assert_eq!(saved.made_of[1].digest, digest);
    assert!(saved.made_of.iter().all(|m| m.digest.len() == 64));

    let changed = base.replace("packages/minimal", "packages/server");
    world.client.save_profile_text(&changed).await.unwrap();
    let line: Line = "web".parse().unwrap();
    let kept = fleeti_control::profiles::get(&world.server.control, &line, 1).await.unwrap();
    assert_eq!(
        of(&kept),
        [
            "packages/minimal None None",
            "profile/base Some(1) Some(2)",
            "profile/middle Some(1) None",
            "profile/base@1 Some(1) Some(2)",
        ]
    );
    let as_json = world.client.save_profile(&saved.profile).await.unwrap();
    assert_eq!(as_json.number, 1, "the same profile");
    let listed = world.client.profiles().await.unwrap();
    let web = listed.iter().find(|revision| revision.line == line).unwrap();
    assert_eq!(of(web), of(&kept));
}

#[actix_web::test]
async fn a_circle_of_profiles_is_named_with_its_path_and_a_long_chain_is_refused() {
    let world = World::new().await;
    let save =
        async |name: &str, more: &str| world.client.save_profile_text(&document(name, more)).await;
    save("b", "").await.unwrap();
    save("a", "extends = [\"profile/b\"]\n").await.unwrap();
    // Revision 2 of b extends a, which extends the newest revision of b.
    save("b", "extends = [\"profile/a\"]\n").await.unwrap();
    let text = document("c", "extends = [\"profile/a\"]\n");
    let checked = world.client.check_profile_text(&text).await.unwrap();
    let said = &checked.findings[0].message;
    assert!(said.contains("profile/a -> profile/b -> profile/a"), "{said}");

    save("n0", "").await.unwrap();
    for i in 1..=33 {
        let saved = save(&format!("n{i}"), &format!("extends = [\"profile/n{}\"]\n", i - 1)).await;
        if i < 33 {
            saved.unwrap();
            continue;
        }
        let Err(ClientError::Refused(problem)) = saved else { panic!("a chain of {i} profiles") };
        assert!(problem.detail.contains("more than 32 profiles"), "{}", problem.detail);
    }
}
