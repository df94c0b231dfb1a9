//! Harness for tests and the demo: virtual machines with Secure Boot and TPM, and the demo itself. Only ever
//! a dev-dependency of others.
//!
//! Code map: [`qemu`] (QEMU 10 from Debian's packages, unpacked into the cache) · [`vm`] (one machine).

pub mod qemu;
pub mod vm;
