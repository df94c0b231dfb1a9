//! One module for each noun of the command line.

pub mod api;
pub mod attest;
pub mod audit;
pub mod build;
pub mod bundle;
pub mod contents;
pub mod device;
pub mod keys;
pub mod lock;
pub mod login;
pub mod manufacturers;
pub mod pki;
pub mod profile;
pub mod release;
pub mod request;
pub mod rollout;
mod rollout_apply;
mod rollout_file;
mod rollout_plan;
pub mod root;
pub mod secret;
mod server;
pub mod signature;
pub mod token;
pub mod transition;
pub mod user;
pub mod worker;
