//! Statuses that the contract test does not produce.

/// Documented statuses that other tests produce, because they need more than a request: a ceremony,
/// a TPM, a manufacturer's certificate, a full fleet.
pub const ELSEWHERE: &[(&str, u16)] = &[
    ("import_bundle", 201),
    ("import_bundle", 409),
    ("import_transition", 201),
    ("import_transition", 409),
    ("accept_firmware", 200),
    ("accept_firmware", 409),
    ("challenge", 202),
    ("change_boot", 200),
    ("get_ear", 200),
    ("prove_release", 200),
    ("sign_build", 202),
    ("switch_issuer", 409),
    ("add_manufacturers", 201),
    ("add_manufacturers", 409),
    ("remove_manufacturer", 200),
    ("remove_manufacturer", 409),
    ("set_secret", 409),
    ("change_labels", 409),
    ("import_labels", 409),
    ("save_view", 409),
    ("replace_device", 200),
    ("replace_device", 409),
];
