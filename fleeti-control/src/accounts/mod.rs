//! Accounts of people and programs: who sends a request, and what that account and credential
//! permit.
//!
//! Code map: [`actor`] (who acts, and the one check of a permission) · [`access`] (a request's
//! credential becomes an actor) · [`sign_in`], [`sessions`] (login sessions) · [`tokens`] (API
//! tokens) · [`passkeys`], [`by_passkey`], [`challenges`] (Web Authentication) · [`provider`] (OpenID Connect) · [`people`] (accounts and their roles) · [`links`] (one-time links that set passwords) ·
//! [`bootstrap`] (the token of the first start) ·
//! [`independence`] (whether two accounts are two people) · `rows` (reads only rows whose seal is right).

pub mod access;
pub mod actor;
mod attempts;
pub mod bootstrap;
pub mod by_passkey;
pub mod challenges;
pub mod independence;
pub mod links;
pub mod passkeys;
pub mod password;
pub mod people;
pub mod provider;
mod rows;
mod seal;
pub mod sessions;
pub mod sign_in;
pub mod state;
pub mod tokens;
