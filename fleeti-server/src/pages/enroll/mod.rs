//! The page that guides through the enrollment of a device: by pairing code, or by a one-time record.
//!
//! Code map: `handler` (requests) · `view` (what the pages show) · `qr` (QR codes as SVG).

mod handler;
mod qr;
mod view;

pub use self::handler::{create, show};
