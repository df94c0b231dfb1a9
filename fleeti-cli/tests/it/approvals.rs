//! An approver builds from own inputs before approving.

use crate::served::{Ran, Served};
use fleeti_testkit::own_build::OwnBuild;

/// Runs `fleeti build approve build-1 ARGUMENTS` as bob; `@` stands for the folder.
fn approve(served: &Served, arguments: &str) -> Ran {
    let typed = format!("build approve build-1 --key @bob.key {arguments}");
    let typed = typed.replace('@', &served.path(""));
    served.run(&typed.split_whitespace().collect::<Vec<_>>())
}

fn refused(ran: &Ran, text: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains(text), "{ran:?}");
}

#[test]
fn a_build_that_differs_from_ones_own_is_not_approved() {
    let mut served = Served::start();
    served.done("build sign build-1 --key @alice.key");
    refused(&approve(&served, ""), "kiosk@2 was not built here");
    let inputs =
        "--profile examples/profiles/kiosk.toml --trust @data/pki/public --agent /usr/bin/env";
    refused(&approve(&served, &format!("{inputs} --lock @nowhere.json")), "nowhere.json");
    let wrong_usage = approve(&served, "--build @data/builds/build-1");
    assert_eq!(wrong_usage.code, Some(2), "there is no build to compare with: {wrong_usage:?}");

    let profile = std::fs::read_to_string("../examples/profiles/kiosk.toml").unwrap();
    let profile = fleeti_core::profile::check(&profile).unwrap();
    let own = OwnBuild::new(served.dir.path(), &profile).unwrap();
    let programs = own.programs(served.dir.path()).unwrap();
    served.path_variable = Some(format!("{}:/usr/bin:/bin", programs.display()));
    served.cache = Some(own.cache.root().to_owned());
    let ran = approve(&served, &format!("{inputs} --lock @lock.json"));
    refused(&ran, "the requested build differs from the build of your own inputs");
    for part in ["inputs.agent_digest", "files.root.erofs.sha256", "root_hash"] {
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }

    // None of these was an approval: one is needed, and only this one counts.
    let ran = approve(&served, "--not-built-here");
    assert!(ran.code == Some(0) && ran.stdout.contains("1 of 1 approvals: bob"), "{ran:?}");
}
