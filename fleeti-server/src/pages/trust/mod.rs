//! The trust page: which intermediate CAs count, and how far a rotation has progressed.

mod handler;
mod view;

pub use self::handler::show;
