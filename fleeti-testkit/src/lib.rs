//! Test harness, also for the demo: virtual machines with Secure Boot and TPM, and the real
//! executables around them. Other crates may use it as a dev-dependency only.
//!
//! ```
//! use fleeti_pki::{manifest::{PublicKey, ReleaseKeys}, signer::{Algorithm, SoftKey}};
//! let dir = tempfile::tempdir().unwrap();
//! let key = SoftKey::generate(Algorithm::P384).unwrap();
//! fleeti_testkit::synthetic::release(dir.path(), &"kiosk@1".parse().unwrap(), &key, 64).unwrap();
//! let keys = ReleaseKeys::new(vec![PublicKey::of(&key).unwrap()], 1).unwrap();
//! assert!(fleeti_build::release::verify(dir.path(), &keys).is_ok());
//! ```
//!
//! Code map: [`qemu`] (QEMU 10 from Debian's packages, unpacked into the cache) · [`vm`] (one
//! machine) · [`firmware`] (what its firmware starts and refuses) · [`world`] (keys, server,
//! releases and one device, for the demo and the VM tests) · [`scenario`] (the steps of a scenario)
//! · [`adversary`] (a device under an attacker's control) · [`recoveries`] (recovery scenarios) ·
//! [`boot_trials`] (changes of a boot secret) · [`network`] (a proxy with a password) ·
//! [`forwarder`] (a server's previous address) · [`host`] (a device in memory) · [`synthetic`]
//! (releases with dummy payloads) · [`own_build`] (builds without Nix) · [`apt_repository`]
//! (a signed repository of packages) · [`malformed`] (malformed documents) · [`units`] (server,
//! signing service and worker as systemd units) · [`tpm`] (swtpm) · [`soft_tpm`] (TPM signatures in
//! software) · [`token`] (a PKCS#11 token) · [`authenticator`] (passkeys) · [`release_log`] (an audit log in memory) · `attested`,
//! `vault` (what a scenario checks of evidence and secrets) · `tether` (processes that end with a
//! test) · [`mod@bench`] (benchmarks beside peers). The pages in a browser:
//! `src/bin/fleeti-browser.rs` and `browser/pages.mjs`.

pub use fleeti_agent as agent;
pub use fleeti_server as server;
pub use fleeti_store as store;

pub mod adversary;
pub mod apt_repository;
mod attested;
pub mod authenticator;
pub mod bench;
pub mod boot_trials;
pub mod firmware;
pub mod forwarder;
pub mod hardware;
pub mod host;
pub mod malformed;
pub mod network;
pub mod operations;
pub mod own_build;
pub mod qemu;
pub mod recoveries;
pub mod release_log;
pub mod scenario;
pub mod soft_tpm;
pub mod synthetic;
mod tether;
pub mod token;
pub mod tpm;
pub mod units;
mod vault;
pub mod vm;
pub mod world;
