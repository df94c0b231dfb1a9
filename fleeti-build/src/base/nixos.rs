//! The NixOS base: a module tree of NixOS evaluates a profile. No image of it is built here.
//!
//! The Nix files are in `nix/nixos`. [`Tree`] is a checkout of nixpkgs, or only its folders `nixos`
//! and `lib`; [`evaluate`] runs the modules with stand-ins for packages.

mod error;
mod evaluate;
mod findings;
mod honoured;
mod input;
mod process;
mod sources;
mod tree;

pub use error::EvaluationError;
pub use evaluate::{Evaluation, evaluate};
pub use input::Input;
pub use sources::digest as sources_digest;
pub use tree::{Tree, VARIABLE};

use super::{Base, Ignored, Maker};
use fleeti_core::id::{ReleaseName, Version};
use fleeti_core::profile::{BaseName, Profile, SuiteFindings};

/// The NixOS base.
#[derive(Debug, Clone, Copy)]
pub struct Nixos;

impl Base for Nixos {
    fn name(&self) -> BaseName {
        BaseName::Nixos
    }

    fn honoured(&self) -> &'static [&'static str] {
        honoured::HONOURED
    }

    fn impossible(&self) -> &'static [(&'static str, &'static str)] {
        honoured::IMPOSSIBLE
    }

    fn refused(&self, profile: &Profile) -> Vec<Ignored> {
        honoured::refused(profile)
    }

    fn maker(&self) -> Option<&dyn Maker> {
        None
    }
}

/// Evaluates a profile with the tree that [`VARIABLE`] names, as the release `first` of its line;
/// `None` if no tree is named.
///
/// # Errors
/// [`EvaluationError`].
pub fn check(profile: &Profile, first: &Version) -> Result<Option<SuiteFindings>, EvaluationError> {
    let Some(tree) = Tree::named() else { return Ok(None) };
    let release = ReleaseName { line: profile.name.clone(), version: first.clone() };
    let evaluation = evaluate(&tree?, &Input::new(profile, &release, first))?;
    Ok(Some(evaluation.findings))
}
