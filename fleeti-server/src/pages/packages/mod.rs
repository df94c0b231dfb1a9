//! Which devices have a package.

mod handler;
mod view;

pub use self::handler::find;
