//! A log that cannot be rewritten unseen: a Merkle tree over its entries ([`tree`], RFC 9162), and
//! signed statements of its size and root ([`note`], C2SP).

pub mod note;
pub mod tree;
