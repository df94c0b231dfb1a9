//! What the packages of a suite bring: packages with versions and summaries, units, programs, and
//! the users and groups that their installation creates.
//!
//! An index is one text that is searched where it is kept ([`IndexText`]): opening it reads it once
//! and keeps the first name of every few KiB. The first line is the head ([`IndexHead`]). The other
//! lines are sorted by their first two fields:
//!
//! ```text
//! A<tab>USER<tab>PACKAGE,PACKAGE        a user that the installation of a package creates
//! B<tab>PATH<tab>PACKAGE,PACKAGE        a program below /usr/bin or /usr/sbin
//! E<tab>UNIT<tab>PACKAGE,PACKAGE        a unit that starts at boot where a package is installed
//! G<tab>GROUP<tab>PACKAGE,PACKAGE       a group that the installation of a package creates
//! P<tab>NAME<tab>VERSION<tab>INSTALLED KiB<tab>SHA-256<tab>LEARNT<tab>DEPENDS<tab>SUMMARY
//! S<tab>NAME<tab>VERSION<tab>SINCE      a version of the security suite, and when it was first seen
//! U<tab>UNIT<tab>PACKAGE,PACKAGE        a system unit of systemd
//! V<tab>NAME<tab>PACKAGE,PACKAGE        a virtual package, and who provides it
//! ```
//!
//! SINCE is in Unix seconds. SHA-256 is that of the .deb file, or `-`. LEARNT is `+` if a build
//! installed the package, so that the index has everything that it brings, and otherwise `-`. DEPENDS is a list of groups with `,`
//! between them; a group is alternatives with `|` between them.

mod against;
mod kind;
mod made;
mod near;
mod searched;
#[cfg(test)]
mod tests;
mod text;

pub use against::{SuiteFindings, against_suite};
pub use kind::IndexedKind;
pub use made::{Brought, IndexParts, IndexedPackage, SecurityVersion};
pub use searched::{FoundName, PackageFacts, SuiteIndex};
pub use text::{INDEX_MAX, IndexError, IndexHead, IndexText};
