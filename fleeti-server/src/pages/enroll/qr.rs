//! QR codes, as the path of an SVG.

use qrcode::{Color, EcLevel, QrCode};
use std::fmt::Write;

/// Light modules around the code: ISO/IEC 18004 asks for four.
const MARGIN: usize = 4;

/// A QR code.
pub struct Qr {
    /// Width and height in units of the drawing.
    pub size: usize,
    /// The dark modules, as the data of an SVG path. It has numbers only, no text.
    pub path: String,
}

impl Qr {
    /// The code of a text; `None` if the text is too long for one.
    pub fn of(text: &str) -> Option<Self> {
        let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
        let (width, modules) = (code.width(), code.to_colors());
        let mut path = String::new();
        for (y, row) in modules.chunks(width).enumerate() {
            let mut x = 0;
            for run in row.chunk_by(|a, b| a == b) {
                if run.first() == Some(&Color::Dark) {
                    let (left, top, length) = (x + MARGIN, y + MARGIN, run.len());
                    // Writing to a string does not fail.
                    write!(path, "M{left} {top}h{length}v1h-{length}z").ok();
                }
                x += run.len();
            }
        }
        Some(Self { size: width + 2 * MARGIN, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_finders_and_a_margin_and_no_text() {
        let qr = Qr::of("<script>alert(1)</script>").unwrap();
        assert_eq!(qr.size, 25 + 8, "version 2");
        // The finder at the upper left: seven modules, then one dark module at each side.
        assert!(qr.path.starts_with("M4 4h7v1h-7z"), "{}", qr.path);
        assert!(qr.path.contains("M4 5h1v1h-1z") && qr.path.contains("M10 5h1v1h-1z"));
        assert!(qr.path.bytes().all(|b| b.is_ascii_digit() || b" Mhvz-".contains(&b)));
        assert!(Qr::of(&"x".repeat(2953)).is_some(), "the longest");
        assert!(Qr::of(&"x".repeat(2954)).is_none());
    }
}
