//! A log that cannot be rewritten unnoticed: a Merkle tree over its entries ([`tree`], RFC 9162),
//! and signed checkpoints of its size and root hash ([`note`], C2SP).

pub mod note;
pub mod tree;
