//! Rules for diagnostics and support keys.

use super::{Sink, is_clean_path, unique};
use crate::profile::{Diagnostic, Profile, SupportKey};
use crate::wire::command::is_name;

/// Longest key, bytes.
const KEY_MAX: usize = 16 << 10;
/// Longest argument of a diagnostic, bytes.
const ARGUMENT_MAX: usize = 1024;

pub(super) fn check(profile: &Profile, sink: &mut Sink) {
    for (i, diagnostic) in profile.diagnostics.iter().enumerate() {
        check_diagnostic(&format!("diagnostics[{i}]"), diagnostic, sink);
    }
    unique("diagnostics", "name", profile.diagnostics.iter().map(|d| &d.name), sink);
    for (i, key) in profile.support_keys.iter().enumerate() {
        check_key(&format!("support_keys[{i}]"), key, sink);
    }
    unique("support_keys", "name", profile.support_keys.iter().map(|k| &k.name), sink);
}

fn check_name(path: &str, name: &str, sink: &mut Sink) {
    if !is_name(name) {
        let remedy = "use 1 to 64 of a-z, 0-9 and -";
        sink.say(format!("{path}.name"), "is not a valid name", remedy);
    }
}

fn check_diagnostic(path: &str, diagnostic: &Diagnostic, sink: &mut Sink) {
    let Diagnostic { name, command, timeout_s } = diagnostic;
    check_name(path, name, sink);
    if command.first().is_none_or(|program| !is_clean_path(program)) {
        sink.say(
            format!("{path}.command"),
            "does not start with an absolute path",
            "write [\"/usr/bin/networkctl\", \"status\"]",
        );
    }
    let is_argument = |text: &String| text.len() <= ARGUMENT_MAX && !text.contains('\0');
    if !command.iter().all(is_argument) {
        let remedy = "use arguments of at most 1024 bytes";
        sink.say(format!("{path}.command"), "has an argument that is too long", remedy);
    }
    if !(1..=600).contains(timeout_s) {
        sink.say(format!("{path}.timeout_s"), "is out of range", "use 1 to 600 seconds");
    }
}

/// The build reads the key itself.
fn check_key(path: &str, key: &SupportKey, sink: &mut Sink) {
    const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
    const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";
    let SupportKey { name, key } = key;
    check_name(path, name, sink);
    let path = format!("{path}.key");
    if key.contains("PRIVATE KEY") {
        let remedy = "write what `gpg --export --armor` prints, and replace the private key: \
                      every reader of the profile has it";
        sink.say(path, "is a private key", remedy);
    } else if key.len() > KEY_MAX
        || !key.trim().starts_with(BEGIN)
        || !key.trim().ends_with(END)
        || !key.is_ascii()
    {
        let remedy = "write what `gpg --export --armor NAME` prints";
        sink.say(path, "is not an armored public OpenPGP key", remedy);
    }
}
