//! Rules for text and documents of other parties: one place escapes them, and one place reads them.

/// Files that may use serde's own readers, with the reason.
const PLAIN_READERS: &[(&str, &str)] = &[
    ("fleeti-core/src/strict.rs", "the strict reader itself"),
    ("fleeti-core/src/strict/tests.rs", "tests of the strict reader"),
    ("fleeti-agent/src/luks.rs", "a value of any shape: the header of LUKS2"),
    ("fleeti-core/src/profile/honoured.rs", "a profile that was written here without a field"),
    ("fleeti-core/src/profile/resolve.rs", "a tree whose shape was compared with the type before"),
    ("fleeti-build/src/overlay/sample.rs", "what a test wrote"),
    ("fleeti-build/src/base/nixos/evaluate.rs", "a value of any shape: a report of the evaluator"),
    ("fleeti-store/src/", "columns that the server itself wrote"),
    (
        "fleeti-cli/src/commands/rollout_file.rs",
        "the operator's own file; its waves are checked to be tables",
    ),
    (
        "fleeti-control/src/webhooks/outbox.rs",
        "a value of any shape: bodies of events that the server itself wrote",
    ),
    (
        "fleeti-server/src/limits.rs",
        "the operator's own file, with numbers only; the root of TOML is always a table",
    ),
    (
        "fleeti-server/src/options.rs",
        "the operator's own file; its one table is checked to be a table",
    ),
    (
        "fleeti-server/src/pages/profiles/form.rs",
        "a value of any shape, which the profile's check reads",
    ),
    ("fleeti-server/src/pages/profiles/document.rs", "a value of any shape, compared whole"),
    (
        "fleeti-server/src/pages/profiles/read.rs",
        "a value of any shape, which the profile's check reads",
    ),
    (
        "fleeti-control/src/accounts/provider/",
        "answers with fields of any kind, each behind `strict::object`",
    ),
    ("fleeti-control/src/boot/mod.rs", "signatures that the server itself wrote: a list of pairs"),
    (
        "fleeti-control/src/boot/proof.rs",
        "signatures that the server itself wrote: a list of pairs",
    ),
    (
        "fleeti-control/src/releases/mod.rs",
        "signatures that the server itself wrote: a list of pairs",
    ),
    ("fleeti-pki/src/audit.rs", "canonical bytes: what was read is written again and compared"),
    ("fleeti-pki/src/oidc/mod.rs", "a value of any shape, behind `strict::unique`"),
    (
        "fleeti-pki/src/boot_keys.rs",
        "what was encrypted here; writing it again would copy secrets in memory",
    ),
    ("fleeti-pki/src/pcr_policy.rs", "a value of any shape, compared whole"),
];
/// Executables whose logs contain text of other parties.
const LOGGING: [&str; 3] = ["fleeti-server/src/", "fleeti-signer/src/", "fleeti-agent/src/"];
/// File in which each of them starts its log.
const LOGS: [&str; 3] =
    ["fleeti-server/src/log.rs", "fleeti-signer/src/main.rs", "fleeti-agent/src/program.rs"];

/// Lines of a file that escape or read text of other parties elsewhere: line number and rule.
pub fn past_the_one_place(file: &str, text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    if LOGS.contains(&file) && !text.contains("foreign::log_field(") {
        found
            .push((1, "a log that does not write its fields with fleeti_core::foreign::log_field"));
    }
    let tests_from =
        text.lines().position(|line| line.trim() == "mod tests {").unwrap_or(usize::MAX);
    for (at, line) in text.lines().enumerate() {
        let rules = [
            text_of_others(file, line),
            log_of_its_own(file, line),
            plain_reader(file, line).filter(|_| at < tests_from),
        ];
        found.extend(rules.into_iter().flatten().map(|why| (at + 1, why)));
    }
    found
}

fn has(line: &str, marks: &[&str]) -> bool {
    marks.iter().any(|mark| line.contains(mark))
}

/// Only `fleeti_core::foreign` escapes, and in the command line only `output.rs` prints.
fn text_of_others(file: &str, line: &str) -> Option<&'static str> {
    let escapes = ["escape_debug(", "escape_default(", "escape_unicode("];
    if has(line, &escapes) && file != "fleeti-core/src/foreign.rs" && !file.starts_with("xtask/") {
        return Some("an escape outside fleeti_core::foreign: show text of other parties with it");
    }
    let prints = [
        "print!(",
        "println!(",
        "set_message(",
        "set_prefix(",
        "finish_with_message(",
        ".suspend(",
        "stdout()",
        "stderr()",
        "ProgressBar",
    ];
    if file.starts_with("fleeti-cli/src/")
        && file != "fleeti-cli/src/output.rs"
        && has(line, &prints)
    {
        return Some(
            "a print outside output.rs: text of other parties would reach the terminal unescaped",
        );
    }
    None
}

/// Fields of a log are escaped where the log is started: no other code starts a log or prints.
fn log_of_its_own(file: &str, line: &str) -> Option<&'static str> {
    if !LOGGING.iter().any(|program| file.starts_with(program))
        || line.trim_start().starts_with("//")
    {
        return None;
    }
    if has(line, &["print!(", "println!("]) && !line.contains("Foreign::") {
        return Some("a print outside the log: text of other parties would be printed unescaped");
    }
    let starts = ["tracing_subscriber", "set_global_default(", "env_logger", "set_logger("];
    (has(line, &starts) && !LOGS.contains(&file))
        .then_some("another log: fields are escaped only in the log that the executable starts")
}

/// serde's own readers also read a struct from a list.
fn plain_reader(file: &str, line: &str) -> Option<&'static str> {
    let is_product = file.starts_with("fleeti-") || file.starts_with("bindings/");
    let is_exempt = has(file, &["/tests/", "/fuzz/", "fleeti-testkit/"])
        || PLAIN_READERS.iter().any(|(place, _)| file.starts_with(place));
    let reads = ["serde_json::from_", "toml::from_", ".json::<", ".json().await"];
    (is_product && !is_exempt && !line.trim_start().starts_with("//") && has(line, &reads))
        .then_some("serde's reader accepts a list for a struct: use fleeti_core::strict, or add the reason to xtask/src/foreign.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_found(file: &str, line: &str) -> bool {
        !past_the_one_place(file, line).is_empty()
    }

    #[test]
    fn a_print_past_the_place_that_escapes_is_found() {
        for line in [
            "eprintln!(\"{}\", problem.detail);",
            "    print!(\"{name}\");",
            "bar.set_message(build.detail);",
            "write!(io::stdout(), \"{e}\")?;",
        ] {
            assert!(is_found("fleeti-cli/src/commands/build.rs", line), "{line}");
            assert!(!is_found("fleeti-cli/src/output.rs", line), "{line}");
            assert!(!is_found("fleeti-testkit/src/main.rs", line), "{line}");
        }
        assert!(!is_found("fleeti-cli/src/commands/build.rs", "output.note(shown);"));
    }

    #[test]
    fn an_escape_of_ones_own_is_found_wherever_it_is() {
        for file in [
            "fleeti-cli/src/output.rs",
            "fleeti-server/src/gateway/mod.rs",
            "fleeti-agent/src/main.rs",
        ] {
            assert!(is_found(file, "let shown = text.escape_debug().to_string();"), "{file}");
        }
        assert!(!is_found("fleeti-core/src/foreign.rs", "c.escape_unicode()"));
    }

    #[test]
    fn a_log_that_does_not_escape_its_fields_is_found() {
        for file in [
            "fleeti-server/src/gateway/mod.rs",
            "fleeti-signer/src/socket.rs",
            "fleeti-agent/src/daemon.rs",
        ] {
            assert!(is_found(file, "    tracing_subscriber::fmt().init();"), "{file}");
            assert!(is_found(file, "    eprintln!(\"{e}\");"), "{file}");
            assert!(!is_found(file, "    eprintln!(\"{}\", Foreign::log(&e));"), "{file}");
            assert!(!is_found(file, "    tracing::warn!(\"{e}\");"), "{file}");
        }
        for file in LOGS {
            assert!(is_found(file, "    tracing_subscriber::fmt().init();"), "{file}");
            assert!(
                !is_found(
                    file,
                    "    tracing_subscriber::fmt().fmt_fields(debug_fn(|w, f, v| foreign::log_field(w, f.name(), v)));"
                ),
                "{file}"
            );
        }
    }

    #[test]
    fn a_reader_that_takes_a_list_for_a_struct_is_found_outside_tests() {
        for line in [
            "let x: Y = serde_json::from_slice(&bytes)?;",
            "toml::from_str(&text)",
            "    answer.json().await?",
        ] {
            for file in [
                "fleeti-agent/src/daemon.rs",
                "fleeti-signer/src/socket.rs",
                "fleeti-client/src/lib.rs",
                "bindings/python/src/lib.rs",
            ] {
                assert!(is_found(file, line), "{file}: {line}");
                assert!(!is_found(file, &format!("mod tests {{\n{line}\n}}")), "{file}: {line}");
            }
            for file in [
                "fleeti-agent/tests/it/tpm.rs",
                "fleeti-store/src/rollouts.rs",
                "fleeti-testkit/src/vault.rs",
                "xtask/src/main.rs",
            ] {
                assert!(!is_found(file, line), "{file}: {line}");
            }
        }
        assert!(!is_found("fleeti-agent/src/daemon.rs", "strict::from_slice(&bytes)"));
    }
}
