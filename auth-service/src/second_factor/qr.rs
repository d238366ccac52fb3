//! QR codes (ISO/IEC 18004) as SVG paths, which a page draws without a library.

use std::fmt::Write as _;

use anyhow::Context as _;
use qrcode::{Color, EcLevel, QrCode};
use serde::Serialize;
use utoipa::ToSchema;

/// A QR code as the black part of a square.
#[derive(Serialize, ToSchema)]
pub(crate) struct QrImage {
    /// Side of the square, in modules, without the white border of four modules that a scanner needs.
    modules: usize,
    /// SVG path of the black modules, one unit each, in a view box from 0 to `modules`.
    path: String,
}

impl QrImage {
    /// Draws `text`, with 15 % of redundancy.
    ///
    /// # Errors
    ///
    /// When the text is longer than a QR code can hold, 2,331 bytes.
    pub(crate) fn draw(text: &str) -> anyhow::Result<Self> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M);
        let code = code.ok().context("the text is too long for a QR code")?;
        let mut path = String::new();
        for (y, row) in code.to_colors().chunks(code.width()).enumerate() {
            let mut x = 0;
            for run in row.chunk_by(|a, b| a == b) {
                if run.first() == Some(&Color::Dark) {
                    let length = run.len();
                    write!(path, "M{x} {y}h{length}v1h-{length}z")?;
                }
                x += run.len();
            }
        }
        Ok(Self {
            modules: code.width(),
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_three_corners_and_no_module_outside_the_square() {
        let image = QrImage::draw("otpauth://totp/Latchkey:alice?secret=GEZDGNBV").expect("a code");
        assert!(image.path.starts_with("M0 0h7v1h-7z"), "{}", image.path);
        let last = image.modules - 1;
        for corner in [
            format!("M{} 0h7v1h-7z", image.modules - 7),
            format!("M0 {last}h7v1h-7z"),
        ] {
            assert!(image.path.contains(&corner), "{corner}");
        }
        for run in image.path.split('M').skip(1) {
            let numbers: Vec<usize> = run
                .split(['h', ' ', 'v'])
                .take(3)
                .filter_map(|number| number.parse().ok())
                .collect();
            assert!(
                numbers[0] + numbers[2] <= image.modules && numbers[1] <= last,
                "{run}"
            );
        }
    }

    #[test]
    fn a_text_that_no_code_holds_is_an_error_and_the_longest_is_none() {
        assert!(QrImage::draw(&"a".repeat(2_331)).is_ok());
        assert!(QrImage::draw(&"a".repeat(2_332)).is_err());
    }
}
