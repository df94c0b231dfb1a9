//! Secure Boot variables (UEFI 2.10, 8.2 and 32.4): signature lists and authenticated writes.

mod list;
mod variable;

pub use list::{Guid, SignatureList, certificates, digests, parse};
pub use variable::{AuthenticatedWrite, Variable, file_name, global_file_name, name, value, write};
pub(crate) use variable::{GLOBAL, SECURITY_DATABASE};

/// Owner of every entry that Fleeti writes.
pub const OWNER: Guid =
    Guid::new(0x6b1d_6f3a, 0x5c1c, 0x4e0d, [0x9f, 0x6b, 0x3f, 0x1f, 0x5f, 0x0c, 0x7a, 0x11]);
