//! Harness for tests and the demo: virtual machines with Secure Boot and TPM, the real programs
//! around them. Only ever a dev-dependency of others.
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
//! machine) · [`firmware`] (what it starts and refuses) · [`world`] (keys, server, releases and one
//! device, as the demo and the VM tests use them) · [`story`] (steps with their evidence) ·
//! [`liar`] (a machine that somebody took over) · [`recoveries`] (what brings devices back) ·
//! [`forwarder`] (a server's previous address) · [`host`] (a device in memory) · [`synthetic`]
//! (releases without meaning) · [`malformed`] (documents in wrong forms) · [`units`] (server,
//! signer and worker started by systemd) · [`tpm`] (a TPM of its own) · [`soft_tpm`] (what a TPM
//! would sign) · [`mod@bench`] (figures beside peers).

pub use fleeti_agent as agent;
pub use fleeti_server as server;

pub mod bench;
pub mod firmware;
pub mod forwarder;
pub mod host;
pub mod liar;
pub mod malformed;
mod proved;
pub mod qemu;
pub mod recoveries;
pub mod release_log;
pub mod soft_tpm;
pub mod story;
pub mod synthetic;
pub mod token;
pub mod tpm;
pub mod units;
mod vault;
pub mod vm;
pub mod world;
