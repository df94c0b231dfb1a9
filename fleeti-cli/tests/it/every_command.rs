//! Runs every subcommand that clap knows against a real server, with text and with JSON output.
//!
//! A row is a command as typed. It runs twice, with `{n}` as 1 for text and as 2 for `-o json`, so
//! that what can be made only once is made under two names. A subcommand without a row fails the
//! test.

use crate::recorder::Recorder;
use crate::served::{Ran, Served};
use fleeti_testkit::operations;
use std::collections::{BTreeMap, BTreeSet};

/// The expected result of a command.
#[derive(Clone, Copy)]
enum Says {
    /// Exit code 0, and this text on stdout.
    Done(&'static str),
    /// Exit code 1, nothing on stdout, and this text in the error.
    Refused(&'static str),
}

use Says::{Done, Refused};

/// Path of the subcommand, its arguments, and the expected result. `@` stands for the folder,
/// `{api}`, `{device}`, `{fleet}`, `{build}` and `{code}` for values of the run, and `{NAME}` for a
/// value of an earlier row ([`KEPT`]).
struct Row(&'static str, &'static str, Says);

/// Values that later rows need: path of the row, JSON pointer into its output, and name.
const KEPT: &[(&str, &str, &str)] =
    &[("rollout start", "/id", "rollout"), ("device command", "/id", "command")];

const ROWS: &[Row] = &[
    Row("profile check", "examples/profiles/kiosk.toml", Done("kiosk is valid")),
    Row("profile search", "nginx", Refused("no index")),
    Row("profile library", "template/web-server", Done("services/web")),
    Row("profile new", "web --template web-server --out @new{n}.toml", Done("wrote")),
    Row("profile import", "--adopt --root @system --out @adopted{n}.toml", Done("not taken")),
    Row("profile show", "examples/profiles/kiosk.toml --why users", Done("kiosk.toml:")),
    Row("profile schema", "", Done("Fleeti profile")),
    Row("profile save", "examples/profiles/kiosk.toml", Done("kiosk revision")),
    Row("profile save", "examples/profiles/kiosk.toml --as-written", Done("kiosk revision 2")),
    Row("profile list", "", Done("kiosk")),
    Row("profile revisions", "kiosk", Done("revision 1")),
    Row("profile revision", "kiosk 2", Done("name = \"kiosk\"")),
    Row("profile changes", "kiosk 1 2", Done("do not differ")),
    Row("profile refresh-schedule", "kiosk 02:00-05:00", Done("refreshed packages: 02:00-05:00")),
    Row("profile refresh-schedule", "kiosk", Done("  next 20")),
    Row("profile refresh-schedule", "nothing --off", Refused("no refresh schedule")),
    Row("profile changes", "kiosk 1 9", Refused("kiosk")),
    Row("profile check", "examples/profiles/kiosk.toml --on-server", Done("kiosk is valid")),
    Row("profile check", "fleeti-cli/tests/it/bad-profile.toml --on-server", Refused("errors in")),
    Row("profile library", "--on-server", Done("profile/kiosk")),
    Row("profile library", "profile/kiosk --on-server", Done("name = \"kiosk\"")),
    Row("profile search", "nginx --on-server", Refused("has no index of packages")),
    Row("build start", "examples/profiles/kiosk.toml --version 9.{n}", Done("kiosk@9.")),
    Row("build list", "", Done("build-1")),
    // The demo and its virtual machines cover real builds with Nix, and disks of them.
    Row(
        "build run",
        "fleeti-cli/tests/it/bad-profile.toml --version 1 --trust @data/pki/public --out @b{n}",
        Refused("errors in"),
    ),
    Row("build lock", "fleeti-cli/tests/it/bad-profile.toml", Refused("errors in")),
    Row("build verify", "@nowhere", Refused("build.json")),
    Row("build contents", "@nowhere", Refused("contents.json")),
    Row("build diff", "@nowhere @nowhere", Refused("lock.json")),
    Row("build sign", "{build} --key @alice.key", Done("0 of 1 approvals")),
    Row("build approve", "{build} --key @bob.key --not-built-here", Done("1 of 1 approvals")),
    Row("release create", "@made/{n} --pki @org --out @release/{n}", Done("signed gate@{n}")),
    Row(
        "release verify",
        "@release/{n} --trust @data/pki/public",
        Done("is signed by a trusted release key"),
    ),
    Row(
        "release sign",
        "@release/{n} --key @org/offline/release.key --not-built-here",
        Done("signatures"),
    ),
    Row("release publish", "@release/{n}", Done("published gate@{n}")),
    Row("release list", "", Done("gate@1")),
    Row("release show", "gate@{n}", Done("published   20")),
    Row("release sbom", "gate@{n} --trust @data/pki/public --out @sbom{n}", Done("its digest")),
    Row(
        "release evidence",
        "gate@{n} --key @data/pki/public/audit.pub --out @evidence{n}.json",
        Done("entries of the audit log are proved"),
    ),
    Row(
        "release provenance",
        "gate@{n} --trust @data/pki/public --out @provenance{n}",
        Done("its digest"),
    ),
    Row(
        "release disk",
        "@made/{n} --release @release/{n} --out @disk{n}.raw --size-gib 3",
        Refused("disk1.raw"),
    ),
    Row("doctor", "--at 2100-01-01", Done("root CA")),
    Row("fleet list", "", Done("1 device")),
    Row("fleet fixes", "{fleet}", Done("no release is rolled out")),
    Row("device list", "", Done("online")),
    Row("device certificate", "{device}", Done("-----BEGIN CERTIFICATE-----")),
    Row("label key", "site{n} --type choice --values berlin,bonn", Done("choice of berlin, bonn")),
    Row("label keys", "", Done("site1")),
    Row("device label", "{device} site{n}=berlin", Done("site1=berlin")),
    Row("device name", "{device} desk-{n}", Done("has the name desk-1")),
    Row("device note", "{device} moved", Done("is stored")),
    Row("label import", "@labels{n}.csv --dry-run", Refused("labels1.csv")),
    Row("view save", "berlin{n} site{n}=berlin", Done("site1=berlin")),
    Row("view list", "", Done("berlin1")),
    Row("view remove", "berlin{n}", Done("is removed")),
    Row(
        "device change-all",
        "--filter site{n}=berlin --devices 1 --label site{n}-",
        Done("changed 1 device"),
    ),
    Row("label remove-key", "site{n}", Done("is removed")),
    Row("device replace", "{device} --with {device}", Refused("its own place")),
    Row("device show", "{device}", Done("fleet         fleet-1")),
    Row("device history", "{device} --from-s 0", Done("")),
    Row("device drift", "{device}", Done("no drift")),
    Row(
        "device enrollment",
        "--fleet spare --out @record{n}.json",
        Done("valid for one device and 24 hours"),
    ),
    Row(
        "device pair",
        "{code} --fleet spare",
        Done("a device that runs kiosk@1 joins fleet spare"),
    ),
    Row("device pairing-record", "--out @pairing{n}.json", Done("wrote")),
    Row(
        "device provision",
        "--fleet spare --proxy http://127.0.0.1:3128 --out @bundles{n}",
        Done("make disks with"),
    ),
    Row("device smbios", "@record{n}.json --out @smbios{n}", Done("-smbios type=11")),
    Row("device boot-keys", "{device} begin-epoch", Refused("no Secure Boot keys")),
    Row("device command", "{device} report", Done("pending")),
    Row("device commands", "{device}", Done("report")),
    Row("device command-status", "{command}", Done("report")),
    Row("device command-status", "cmd-none", Refused("there is no command")),
    // The simulated device has ended its own at once.
    Row("device cancel", "cmd-none", Refused("there is no command")),
    Row("device result", "{command} --out @result{n}", Refused("result of command")),
    Row("device recovery-key", "{device} --status", Done("last shown  never")),
    Row("device recovery-key", "{device} --reason because", Done("it opens the data partition")),
    Row("why", "{device}", Done("should run")),
    Row("device hold-updates", "{device} --reason because", Done("an operator holds its updates")),
    Row("device resume-updates", "{device}", Done("should run")),
    Row("device pin", "{device} --release gate@{n} --reason because", Done("is pinned to it")),
    Row(
        "device downgrade",
        "{device} --release gate@{n} --reason because",
        Refused("no lower version"),
    ),
    Row("device unpin", "{device}", Done("should run")),
    Row("device skip-windows", "{device} --reason because", Done("skips windows until")),
    Row("device observe-windows", "{device}", Done("should run")),
    Row("device move", "{device} --fleet spare --reason because", Done("should run")),
    Row("device move", "{device} --fleet {fleet} --reason because", Done("should run")),
    Row("channel show", "{fleet}", Done("no rollout has succeeded")),
    Row("channel pin", "{fleet} --release gate@{n} --reason because", Done("pinned   gate@1")),
    Row("channel unpin", "{fleet} --reason because", Done("no rollout has succeeded")),
    Row("device forgive", "{device} --version 7", Done("may install 7 again")),
    Row("attest show", "{device}", Done("L1")),
    Row("attest now", "{device}", Refused("has not shown a TPM")),
    Row("attest fleet", "{fleet}", Done("devices of fleet-1")),
    Row("attest policy", "{fleet} --update L5 --secrets none", Done("secrets")),
    Row(
        "attest policy",
        "{fleet} --download-limit 512 --user-delay 60 --reboot-window 02:00-05:00",
        Done("512 KiB/s on each device"),
    ),
    Row("attest policy", "{fleet} --reboot-window 02:00-02:00", Refused("so it never opens")),
    Row(
        "attest policy",
        "{fleet} --reboot-window none --user-delay none --download-limit none",
        Done("devices update at any time"),
    ),
    Row("attest accept-firmware", "{device}", Refused("evidence of device")),
    Row(
        "release prove",
        "@release/{n} --device {device} --key @org/offline/release.key",
        Refused("does not prove that it runs"),
    ),
    Row("secret set", "{fleet} wifi.psk --file @passphrase", Done("wifi.psk is set")),
    Row("secret list", "{fleet}", Done("wifi.psk")),
    Row("secret remove", "{fleet} wifi.psk", Done("wifi.psk is removed")),
    Row(
        "rollout plan",
        "--release gate@{n} --fleet {fleet} --wave 1 --wave 100%",
        Done("their image line is another one"),
    ),
    // No device of the fleet proves the minimum level, so the rollout waits.
    Row("rollout start", "--release gate@{n} --fleet {fleet}", Done("gate@1 in fleet-1")),
    Row("rollout show", "{rollout}", Done("gate@1 in fleet-1")),
    Row("rollout list", "", Done("gate@1")),
    Row("rollout export", "{rollout}", Done("fleet = \"fleet-1\"")),
    Row("rollout apply", "@rollout{n}.toml --dry-run", Done("unchanged")),
    Row("rollout next", "{rollout} --reason because", Refused("no waves")),
    Row("rollout next", "{rollout} --over-gate --reason because", Refused("no waves")),
    Row("rollout pause", "{rollout}", Done("paused")),
    Row("rollout resume", "{rollout}", Done("running")),
    Row("rollout pause-all", "--reason because", Done("paused")),
    Row("rollout cohort", "r device-5 device-2", Done("175634cb1c44e9fe")),
    Row("rollout roll-back", "{rollout} --reason because", Refused("ran an older release")),
    Row(
        "fix",
        "jq --profile fleeti-cli/tests/it/bad-profile.toml --version 9 --fleet {fleet} --reason because",
        Refused("errors in"),
    ),
    Row("rollout abort", "{rollout}", Done("aborted")),
    Row("package who", "openssl<4", Done("openssl<4: 0 proved")),
    Row("release path", "gate@{n} --floor because", Done("gate@1 is a floor")),
    Row("release revoke", "gate@{n}", Done("is revoked")),
    Row("device revoke", "{device} --reason hold", Done("is revoked")),
    Row("device release-hold", "{device}", Done("is no longer on hold")),
    Row("attest manufacturers list", "", Done("no trusted TPM manufacturers")),
    Row("attest manufacturers add", "@nowhere --kind virtual", Refused("nowhere")),
    Row("attest manufacturers remove", "00000000", Refused("there is no TPM manufacturer")),
    Row("worker add", "builder-{n} --out @worker{n}.token", Done("added builder-1")),
    Row("worker list", "", Done("builder-1")),
    Row("worker remove", "builder-{n}", Done("")),
    Row("user me", "", Done("bootstrap by admin.token: admin of all fleets")),
    Row("user add", "person-{n} --role operator --fleet {fleet}", Done("/join/")),
    Row("user add", "robot-{n} --service --role viewer", Done("viewer of all fleets")),
    Row("user list", "", Done("has not set a password")),
    Row("user grant", "person-{n} viewer", Done("viewer of all fleets, operator of fleet-1")),
    Row("user ungrant", "person-{n} viewer", Done("operator of fleet-1")),
    Row("user show", "person-{n}", Done("shares of the root CA")),
    Row("user link", "person-{n}", Done("/join/")),
    Row("user disable", "person-{n}", Done("disabled 20")),
    Row("user enable", "person-{n}", Done("has not set a password")),
    Row("user sessions", "person-{n}", Done("no login sessions")),
    Row("user sessions", "", Done("no login sessions")),
    Row("user end-sessions", "person-{n}", Done("no login sessions")),
    Row("user end-sessions", "person-{n} --session none", Refused("there is no session")),
    Row("user end-sessions", "--session none", Refused("there is no session")),
    Row("user passkeys", "person-{n}", Done("no passkeys")),
    Row("user passkeys", "", Done("no passkeys")),
    Row("user remove-passkey", "pk-none", Refused("there is no passkey")),
    Row("user offboard", "person-{n}", Done("login sessions            0")),
    Row("approval policy", "", Done("no act needs a second person")),
    Row("approval set-policy", "--recovery-keys", Refused("fewer than two people")),
    Row("approval request", "@act.json --reason because", Refused("names nobody")),
    Row("approval list", "", Done("no act waits for a second person")),
    Row("approval show", "approval-none", Refused("there is no approval")),
    Row("approval approve", "approval-none", Refused("there is no approval")),
    Row("approval collect", "approval-none", Refused("there is no approval")),
    Row("approval deny", "approval-none", Refused("there is no approval")),
    Row(
        "token add",
        "ci --account robot-{n} --permission view --out @robot{n}.token",
        Done("created tok-"),
    ),
    Row("alert list", "--all", Done("no alerts")),
    Row("alert show", "alert-none", Refused("there is no alert")),
    Row("alert acknowledge", "alert-none --note mine", Refused("there is no alert")),
    Row("alert set-rule", "disk --threshold 80 --severity critical", Done("80 percent")),
    Row("alert set-rule", "lab-disk-{n}", Refused("there is no rule lab-disk-1")),
    Row("alert set-rule", "lab-{n} --kind disk", Done("90 percent")),
    Row("alert reset-rule", "lab-{n}", Done("reset lab-1")),
    Row("alert rules", "", Done("3600 seconds")),
    Row("alert silence", "--fleet {fleet} --reason moving", Done("every rule  fleet-1")),
    Row("alert silences", "", Done("moving (bootstrap)")),
    Row("alert unsilence", "silence-none", Refused("there is no silence")),
    Row("webhook add", "https://192.0.2.1/in --out @hook{n}", Refused("private address")),
    Row("webhook list", "", Done("no webhooks")),
    Row("webhook test", "hook-none", Refused("there is no webhook")),
    Row("webhook deliveries", "hook-none", Refused("there is no webhook")),
    Row("webhook remove", "hook-none", Refused("there is no webhook")),
    Row("email add", "ops@ops.example --fleet {fleet}", Refused("e-mail is not configured")),
    Row("email list", "", Done("no receivers of e-mail")),
    Row("email test", "mail-none", Refused("there is no receiver")),
    Row("email enable", "mail-none", Refused("there is no receiver")),
    Row("email disable", "mail-none", Refused("there is no receiver")),
    Row("email deliveries", "mail-none", Refused("there is no receiver")),
    Row("email remove", "mail-none", Refused("there is no receiver")),
    Row("token list", "", Done("no API tokens")),
    Row("token remove", "tok-none", Refused("there is no token")),
    Row("login", "{api} --token-file @data/admin.token", Done("logged in to")),
    Row("logout", "", Done("logged out")),
    Row(
        "device readmit",
        "--fleet {fleet} --reason because",
        Done("readmission to fleet-1 is open for 168 hours"),
    ),
    Row("audit list", "", Done("device.")),
    Row(
        "audit verify",
        "--key @data/pki/public/audit.pub --remember @remembered",
        Done("are unchanged"),
    ),
    Row(
        "audit consistency",
        "--key @data/pki/public/audit.pub --remember @remembered",
        Done("are unchanged since the last check"),
    ),
    Row(
        "audit consistency",
        "--key @data/pki/public/audit.pub --remember @nothing-yet",
        Refused("nothing-yet does not exist"),
    ),
    Row("audit prove", "0 --key @data/pki/public/audit.pub", Done("entries contains it")),
    Row("api", "get devices?limit=5", Done("fleet-1")),
    Row("manual", "@share{n}", Done("manual pages")),
    Row("pki init", "@pki{n}", Done("made")),
    Row(
        "pki root create",
        "@root{n} --operator alice --operator bob --threshold 2 --passphrases @passphrases --adopt @data/pki",
        Done("2 of 2 operators open"),
    ),
    Row("pki request", "device --pki @request{n}", Done("made")),
    Row(
        "pki root sign",
        "@root{n} @request{n}/device-ca.csr --purpose device --out @device-ca-{n}.pem --share @root{n}/shares/alice.share \
         --share @root{n}/shares/bob.share --passphrases @passphrases",
        Done("bundle"),
    ),
    Row(
        "pki root crl",
        "@root{n} --share @root{n}/shares/alice.share --share @root{n}/shares/bob.share --passphrases @passphrases",
        Done("bundle"),
    ),
    Row("pki root transcript", "@root{n}", Done("alice, bob")),
    Row("pki bundle publish", "@root1", Done("bundle")),
    Row("pki bundle show", "", Done("devices")),
    Row("pki bundle switch", "device 00", Refused("there is no intermediate")),
    Row(
        "pki transition root",
        "@nowhere --to @nowhere --out @t{n} --share @nowhere",
        Refused("nowhere"),
    ),
    Row(
        "pki transition release-keys",
        "--from @data/pki/public/release.pem --to @other/public/release.pem --key @org/offline/release.key --out @keys{n}.json",
        Done("keys1.json"),
    ),
    Row(
        "pki transition log-key",
        "--from @nowhere --to @nowhere --release-keys @nowhere --key @nowhere --out @l{n}",
        Refused("nowhere"),
    ),
    Row(
        "pki transition log-reset",
        "--log @nowhere --checkpoint @nowhere --release-keys @nowhere --key @nowhere --out @r{n}",
        Refused("nowhere"),
    ),
    Row(
        "pki transition openpgp-keys",
        "--from @data/pki/public/openpgp.gpg --to @other/public/openpgp.gpg --release-keys @data/pki/public/release.pem \
         --key @org/offline/release.key --out @rings{n}.json",
        Done("rings1.json"),
    ),
    Row(
        "pki transition server",
        "--from https://a.example:8443 --to https://b.example:8443 --mqtt b.example:8883 --release-keys @data/pki/public/release.pem \
         --key @org/offline/release.key --out @move{n}.json",
        Done("move1.json"),
    ),
    Row("pki transition sign", "@nowhere --key @org/offline/release.key", Refused("nowhere")),
    Row("pki transition publish", "@nowhere", Refused("nowhere")),
    Row("pki transition show", "", Done("")),
    Row("pki release-key", "@release{n}.key", Done("key id")),
    Row("pki approver-key", "@approver{n}.key", Done("key id")),
    Row("pki pcr-key", "@pcr{n}.key", Done("key id")),
    Row(
        "pki token-key",
        "@token{n}.key --uri pkcs11:token=t;object=release-a?module-path=/nowhere.so",
        Refused("/nowhere.so"),
    ),
    Row("pki release-keys", "@data/pki/public", Done("1 of 1 release keys must sign")),
    Row("pki openpgp-key", "@openpgp{n}.key", Done("made")),
    Row("pki openpgp-keys", "@data/pki/public", Done("SHA256SUMS may be signed by")),
    Row("pki approvers", "@data/pki/signing", Done("approvals needed: 1, requester excluded")),
];

/// Paths of all subcommands that have no subcommands.
fn leaves(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
    let below: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
    if below.is_empty() {
        found.insert(path.to_owned());
    }
    for subcommand in below {
        leaves(subcommand, format!("{path} {}", subcommand.get_name()).trim_start(), found);
    }
}

#[test]
fn every_subcommand_has_a_row_and_every_row_a_subcommand() {
    let (mut known, rows) =
        (BTreeSet::new(), ROWS.iter().map(|r| r.0.to_owned()).collect::<BTreeSet<_>>());
    leaves(&fleeti_cli::command(), "", &mut known);
    assert_eq!(known, rows, "left: what clap knows; right: what ROWS runs");
}

#[test]
fn every_subcommand_does_its_work_for_people_and_as_one_json_document() {
    let mut served = Served::start();
    let act = "{\"type\": \"set_policy\", \"policy\": {\"recovery_keys\": true}}";
    std::fs::write(served.path("act.json"), act).unwrap();
    let devices = [1, 2].map(|n| served.device(&format!("device-{n}"), &format!("fleet-{n}")));
    for n in [1, 2] {
        let name = format!("gate@{n}").parse().unwrap();
        fleeti_testkit::synthetic::build(&served.dir.path().join(format!("made/{n}")), &name)
            .unwrap();
        let rollout = format!("release = \"gate@{n}\"\nfleet = \"fleet-{n}\"\n");
        std::fs::write(served.path(&format!("rollout{n}.toml")), rollout).unwrap();
        for folder in ["online", "public"] {
            std::fs::create_dir_all(served.path(&format!("request{n}/{folder}"))).unwrap();
        }
    }
    crate::adopt::write_system(&served.dir.path().join("system"));
    // The images need no PCR policy.
    served.done("pki init @other");
    copy(&served.path("data/pki"), &served.path("org"));
    std::fs::remove_file(served.path("org/offline/pcr.key")).unwrap();
    let mut kept: [BTreeMap<&str, String>; 2] = Default::default();
    let (mut wrong, mut requests) = (Vec::new(), Vec::new());
    let recorder = Recorder::start(&served.api);
    served.api.clone_from(&recorder.url);
    for Row(path, arguments, says) in ROWS {
        for (run, device) in devices.iter().enumerate() {
            let n = (run + 1).to_string();
            let mut typed =
                arguments.replace('@', "\u{1}").replace("{n}", &n).replace("{device}", device);
            typed = typed
                .replace("{fleet}", &format!("fleet-{n}"))
                .replace("{build}", &format!("build-{n}"));
            typed = typed.replace("{api}", &served.api);
            if typed.contains("{code}") {
                typed = typed.replace("{code}", &served.code());
            }
            for (name, value) in &kept[run] {
                typed = typed.replace(&format!("{{{name}}}"), value);
            }
            // `@` before a path, and not the one of `kiosk@1`.
            let typed: Vec<String> =
                typed.split_whitespace().map(|w| in_folder(w, &served.path(""))).collect();
            let mut words: Vec<&str> = if run == 1 { vec!["-o", "json"] } else { vec![] };
            words.extend(path.split(' '));
            words.extend(typed.iter().map(String::as_str));
            let ran = served.run(&words);
            let seen = recorder.requests();
            if *path != "api" {
                requests.extend(seen);
            }
            // A schema is JSON for people as well.
            let is_for_people = run == 0 && *path != "profile schema";
            let checked =
                if is_for_people { for_people(&ran, *says) } else { as_json(&ran, *says) };
            if let Err(why) = checked {
                wrong.push(format!("fleeti {}: {why}\n{ran:?}", words.join(" ")));
            }
            if let Some((_, pointer, name)) = KEPT.iter().find(|(of, ..)| of == path) {
                let text = if run == 1 { ran.stdout } else { last_as_json(&served, path, device) };
                let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                kept[run].insert(
                    name,
                    value.pointer(pointer).and_then(|v| v.as_str()).unwrap_or("none").to_owned(),
                );
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} are wrong:\n{}",
        wrong.len(),
        ROWS.len() * 2,
        wrong.join("\n\n")
    );
    every_operation_has_a_subcommand(&requests);
}

/// Operations for machines, which have no subcommand of their own.
const ONLY_API: &[(&str, &str)] = &[
    ("get_view", "`view list` shows all of them"),
    ("livez", "for a supervisor"),
    ("healthz", "for a load balancer"),
    ("readyz", "for a load balancer"),
    ("metrics", "for Prometheus"),
    ("crl", "for TLS servers"),
    ("document", "for generators of clients"),
];

/// Operations whose row above ends before the request, and the subcommand that sends it.
const STOPS_BEFORE: &[(&str, &str)] = &[
    ("import_transition", "pki transition publish"),
    ("add_manufacturers", "attest manufacturers add"),
    ("import_labels", "label import"),
    ("events", "rollout start"),
    ("get_build", "build start"),
    ("sign_build", "build sign"),
    ("get_ear", "attest show"),
    ("prove_release", "release prove"),
    ("supersede_rollout", "rollout start"),
];

fn every_operation_has_a_subcommand(requests: &[String]) {
    let rows: BTreeSet<&str> = ROWS.iter().map(|row| row.0).collect();
    assert!(STOPS_BEFORE.iter().all(|(_, command)| rows.contains(command)));
    let listed: BTreeSet<&str> =
        ONLY_API.iter().chain(STOPS_BEFORE).map(|(operation, _)| *operation).collect();
    let (mut without, mut known) = (Vec::new(), BTreeSet::new());
    for (operation, template) in operations::documented() {
        let is_used = requests.iter().any(|line| operations::fits(line, &template));
        let is_listed = listed.contains(operation.as_str());
        if !is_used && !is_listed {
            without.push(operation.clone());
        }
        let is_for_machines = ONLY_API.iter().any(|(name, _)| *name == operation);
        assert!(
            !(is_used && is_for_machines),
            "{operation} has a subcommand: it is not for machines"
        );
        known.insert(operation);
    }
    assert!(
        without.is_empty(),
        "no subcommand sends {without:?}: add one; ONLY_API is for machines"
    );
    assert!(listed.iter().all(|operation| known.contains(*operation)), "an operation is gone");
}

/// What a command with text output made: the newest item of its list, as JSON.
fn last_as_json(served: &Served, path: &str, device: &str) -> String {
    let noun = path.split(' ').next().unwrap_or_default();
    let list = match path {
        "device command" => ["device", "commands", device].to_vec(),
        _ => [noun, "list"].to_vec(),
    };
    let listed = served.run(&[&["-o", "json"], list.as_slice()].concat()).stdout;
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap_or_default();
    listed.first().map(ToString::to_string).unwrap_or_default()
}

fn in_folder(word: &str, folder: &str) -> String {
    match word.split_once('\u{1}') {
        Some(("", path)) => format!("{folder}{path}"),
        Some((before, after)) => format!("{before}@{after}"),
        None => word.to_owned(),
    }
}

fn copy(from: &str, to: &str) {
    let status = std::process::Command::new("cp").args(["-r", from, to]).status().unwrap();
    assert!(status.success());
}

fn for_people(ran: &Ran, says: Says) -> Result<(), String> {
    let (code, text, needle) = match says {
        Done(needle) => (0, &ran.stdout, needle),
        Refused(needle) => (1, &ran.stderr, needle),
    };
    let needle = needle.replace("{n}", "1");
    check(ran.code == Some(code), "exit code")?;
    check(text.contains(&needle), &format!("{needle:?} is missing"))?;
    check(code == 0 || ran.stderr.contains("error: "), "no error is shown")?;
    // Text must not be JSON.
    check(
        code != 0
            || serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&ran.stdout)
                .is_err(),
        "the text is JSON",
    )?;
    // `fleeti api` shows the list that the server sent.
    check(
        (ran.stdout.starts_with('[') || !ran.stdout.contains("{\n"))
            && !ran.stderr.contains("panicked"),
        "the text is not for people",
    )
}

fn as_json(ran: &Ran, says: Says) -> Result<(), String> {
    let code = if matches!(says, Done(_)) { 0 } else { 1 };
    check(ran.code == Some(code), "exit code")?;
    if matches!(says, Refused(_)) {
        check(ran.stdout.is_empty(), "there is data beside an error")?;
    } else {
        serde_json::from_str::<serde_json::Value>(&ran.stdout)
            .map_err(|e| format!("stdout is not one JSON document: {e}"))?;
    }
    if code != 0 {
        let last = ran.stderr.lines().last().unwrap_or_default();
        let error: serde_json::Value =
            serde_json::from_str(last).map_err(|e| format!("the error is not JSON: {e}"))?;
        check(error["error"].is_string(), "the error has no text")?;
    }
    Ok(())
}

fn check(is_so: bool, otherwise: &str) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(otherwise.to_owned()) }
}
