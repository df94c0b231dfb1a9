//! Merkle trees and their proofs (RFC 9162, 2.1; the tree of RFC 6962, with SHA-256).
//!
//! A tree is stored as the hashes of its complete subtrees: level 0 has the leaves, level *k* one
//! hash for each complete group of 2^*k* leaves. They never change, and every root hash and proof
//! is computed from a few of them.

use crate::Error;
use sha2::{Digest, Sha256};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// The hash of an entry (RFC 9162, 2.1.1).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The store of the hashes of complete subtrees.
pub trait Nodes {
    /// Why a hash cannot be read.
    type Error;
    /// The hash over `2^level` leaves, from leaf `index * 2^level` on.
    ///
    /// # Errors
    /// If it cannot be read.
    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// A tree in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryTree {
    levels: Vec<Vec<Hash>>,
}

impl MemoryTree {
    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }
    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        // INVARIANT: a tree in memory has every node.
        let Ok(nodes) = completed(self.size(), leaf, self);
        for (level, hash) in (0..).zip(nodes) {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
        }
    }
    /// The root hash.
    #[must_use]
    pub fn root(&self) -> Hash {
        let Ok(root) = root(self.size(), self);
        root
    }
}

impl Nodes for MemoryTree {
    type Error = std::convert::Infallible;
    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        Ok(self.levels[level as usize][at])
    }
}

/// The hashes that a new leaf completes, from level 0 upwards.
///
/// # Errors
/// If a node cannot be read.
pub fn completed<N: Nodes>(size: u64, leaf: Hash, nodes: &N) -> Result<Vec<Hash>, N::Error> {
    let mut new = vec![leaf];
    let (mut index, mut level, mut hash) = (size, 0, leaf);
    while index & 1 == 1 {
        hash = node_hash(&nodes.node(level, index - 1)?, &hash);
        new.push(hash);
        index >>= 1;
        level += 1;
    }
    Ok(new)
}

/// The hash over the first `size` leaves (RFC 9162, 2.1.1).
///
/// # Errors
/// If a node cannot be read.
pub fn root<N: Nodes>(size: u64, nodes: &N) -> Result<Hash, N::Error> {
    if size == 0 { Ok(Sha256::digest([]).into()) } else { range(0, size, nodes) }
}

/// The largest power of two below `n`, which is two or more.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The hash over leaves `begin..end`, a subtree: `begin` is a multiple of the smallest power of two
/// that is not less than its width.
fn range<N: Nodes>(begin: u64, end: u64, nodes: &N) -> Result<Hash, N::Error> {
    let width = end - begin;
    if width.is_power_of_two() {
        return nodes.node(width.trailing_zeros(), begin / width);
    }
    let k = split(width);
    Ok(node_hash(&range(begin, begin + k, nodes)?, &range(begin + k, end, nodes)?))
}

/// The inclusion proof for leaf `index` in the tree of `size` leaves (RFC 9162, 2.1.3.1).
///
/// # Errors
/// If a node cannot be read.
pub fn inclusion<N: Nodes>(index: u64, size: u64, nodes: &N) -> Result<Vec<Hash>, N::Error> {
    let (mut begin, mut end, mut proof) = (0, size, Vec::new());
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            proof.push(range(middle, end, nodes)?);
            end = middle;
        } else {
            proof.push(range(begin, middle, nodes)?);
            begin = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The consistency proof from the tree of `old` leaves to the tree of `new` leaves (RFC 9162,
/// 2.1.4.1).
///
/// # Errors
/// If a node cannot be read.
pub fn consistency<N: Nodes>(old: u64, new: u64, nodes: &N) -> Result<Vec<Hash>, N::Error> {
    let (mut begin, mut end, mut whole, mut proof) = (0, new, true, Vec::new());
    if old == 0 || old == new {
        return Ok(proof);
    }
    while end != old {
        let middle = begin + split(end - begin);
        if old <= middle {
            proof.push(range(middle, end, nodes)?);
            end = middle;
        } else {
            proof.push(range(begin, middle, nodes)?);
            (begin, whole) = (middle, false);
        }
    }
    if !whole {
        proof.push(range(begin, end, nodes)?);
    }
    proof.reverse();
    Ok(proof)
}

const NOT_INCLUDED: Error = Error::Refused("the proof does not show that the entry is in the log");
const NOT_CONSISTENT: Error =
    Error::Refused("the proof does not show that the newer log begins with the older one");
/// Enough for a tree of 2^63 leaves.
const PROOF_MAX: usize = 64;

/// Verifies an inclusion proof (RFC 9162, 2.1.3.2).
///
/// # Errors
/// [`Error::Refused`].
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), Error> {
    if index >= size || proof.len() > PROOF_MAX {
        return Err(NOT_INCLUDED);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(NOT_INCLUDED);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(NOT_INCLUDED) }
}

/// The head of a tree: how many leaves it has, and the hash of all of them.
#[derive(Debug, Clone, Copy)]
pub struct TreeHead<'a> {
    /// Number of leaves.
    pub size: u64,
    /// Root hash.
    pub root: &'a Hash,
}

/// Verifies a consistency proof (RFC 9162, 2.1.4.2).
///
/// # Errors
/// [`Error::Refused`].
pub fn verify_consistency(
    old: TreeHead<'_>,
    new: TreeHead<'_>,
    proof: &[Hash],
) -> Result<(), Error> {
    let TreeHead { size: old, root: old_root } = old;
    let TreeHead { size: new, root: new_root } = new;
    if old > new || proof.len() > PROOF_MAX {
        return Err(NOT_CONSISTENT);
    }
    if old == new {
        return if proof.is_empty() && old_root == new_root { Ok(()) } else { Err(NOT_CONSISTENT) };
    }
    if old == 0 {
        // Every log starts empty.
        return if proof.is_empty() { Ok(()) } else { Err(NOT_CONSISTENT) };
    }
    // If the old tree is complete, it is a node of the new one, and not in the proof.
    let (first, rest) = match proof.split_first() {
        _ if old.is_power_of_two() => (*old_root, proof),
        Some((first, rest)) => (*first, rest),
        None => return Err(NOT_CONSISTENT),
    };
    if rest.is_empty() && old.is_power_of_two() {
        return Err(NOT_CONSISTENT);
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in rest {
        if last == 0 {
            return Err(NOT_CONSISTENT);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 && old_hash == *old_root && new_hash == *new_root {
        Ok(())
    } else {
        Err(NOT_CONSISTENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Implements RFC 9162, 2.1.1, literally.
    fn by_the_book(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let k = split(leaves.len() as u64) as usize;
                node_hash(&by_the_book(&leaves[..k]), &by_the_book(&leaves[k..]))
            }
        }
    }

    fn leaves(n: u64) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }
    fn tree(leaves: &[Hash]) -> MemoryTree {
        let mut tree = MemoryTree::default();
        leaves.iter().for_each(|l| tree.push(*l));
        tree
    }

    #[test]
    fn the_tree_of_certificate_transparency_has_its_known_roots() {
        // Inputs and roots shared by implementations of RFC 6962.
        let inputs = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = MemoryTree::default();
        assert_eq!(hex::encode(tree.root()), roots[0]);
        for (input, root) in inputs.iter().zip(&roots[1..]) {
            tree.push(leaf_hash(&hex::decode(input).unwrap()));
            assert_eq!(hex::encode(tree.root()), *root);
        }
    }

    #[test]
    fn every_proof_of_every_small_tree_verifies_and_no_other_does() {
        const N: u64 = 40;
        let leaves = leaves(N);
        for size in 1..=N {
            let tree = tree(&leaves[..size as usize]);
            let root = tree.root();
            assert_eq!(root, by_the_book(&leaves[..size as usize]));
            for index in 0..size {
                let Ok(proof) = inclusion(index, size, &tree);
                let leaf = &leaves[index as usize];
                verify_inclusion(leaf, index, size, &proof, &root).unwrap();
                assert!(
                    verify_inclusion(
                        &leaves[((index + 1) % N) as usize],
                        index,
                        size,
                        &proof,
                        &root
                    )
                    .is_err()
                );
                assert!(verify_inclusion(leaf, index + size, size, &proof, &root).is_err());
                if size > 1 {
                    assert!(verify_inclusion(leaf, index, size, &proof[1..], &root).is_err());
                    assert!(verify_inclusion(leaf, index ^ 1, size, &proof, &root).is_err());
                }
                let longer = [proof.clone(), vec![root]].concat();
                assert!(verify_inclusion(leaf, index, size, &longer, &root).is_err());
            }
        }
    }

    fn head(size: u64, root: &Hash) -> TreeHead<'_> {
        TreeHead { size, root }
    }

    #[test]
    fn every_pair_of_small_trees_is_consistent_and_a_rewritten_one_is_not() {
        const N: u64 = 40;
        let leaves = leaves(N);
        let mut rewritten = leaves.clone();
        rewritten[3] = leaf_hash(b"something else");
        let (good, bad) = (tree(&leaves), tree(&rewritten));
        for old in 1..=N {
            let Ok(old_root) = root(old, &good);
            for new in old..=N {
                let (Ok(new_root), Ok(proof)) = (root(new, &good), consistency(old, new, &good));
                verify_consistency(head(old, &old_root), head(new, &new_root), &proof).unwrap();
                let (Ok(bad_root), Ok(bad_proof)) = (root(new, &bad), consistency(old, new, &bad));
                if old > 3 {
                    assert!(
                        verify_consistency(head(old, &old_root), head(new, &bad_root), &bad_proof)
                            .is_err(),
                        "{old} {new}"
                    );
                }
                if old < new {
                    assert!(
                        verify_consistency(head(old, &old_root), head(new, &new_root), &[])
                            .is_err()
                    );
                    assert!(
                        verify_consistency(head(new, &new_root), head(old, &old_root), &proof)
                            .is_err(),
                        "a log never shrinks"
                    );
                    let longer = [proof.clone(), vec![old_root]].concat();
                    assert!(
                        verify_consistency(head(old, &old_root), head(new, &new_root), &longer)
                            .is_err()
                    );
                }
            }
        }
    }
}
