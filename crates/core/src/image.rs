//! Images as the product sees them: bytes of a fixed shape, one plane after the other.

use serde::{Deserialize, Serialize};

/// Pixels of one side of an image that is read. Larger ones are refused by their header, before anything is decoded.
pub const SIDE_MAX: u32 = 16_384;
/// Bytes of one decoded image: 16 million of them are 4096 × 4096 in grey.
pub const IMAGE_BYTES_MAX: usize = 1 << 24;

/// What every image of a column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageShape {
    /// 1 for grey, 3 for red, green, blue.
    pub channels: u32,
    /// Rows of pixels.
    pub height: u32,
    /// Pixels of a row.
    pub width: u32,
}

impl ImageShape {
    /// Bytes of one image.
    #[must_use]
    pub const fn n_bytes(self) -> usize {
        self.channels as usize * self.n_pixels()
    }

    /// Pixels of one image: bytes of one channel.
    #[must_use]
    pub const fn n_pixels(self) -> usize {
        self.height as usize * self.width as usize
    }

    /// Why no image can have this shape, if none can.
    #[must_use]
    pub fn refusal(self) -> Option<String> {
        let Self { channels, height, width } = self;
        if channels != 1 && channels != 3 {
            return Some(format!("{channels} channels, must be 1 (grey) or 3 (colour)"));
        }
        if height == 0 || width == 0 || SIDE_MAX < height.max(width) {
            return Some(format!("{height} × {width} pixels, a side must have 1 to {SIDE_MAX}"));
        }
        if IMAGE_BYTES_MAX < self.n_bytes() {
            return Some(format!(
                "{self} are {} bytes, at most {IMAGE_BYTES_MAX} are read",
                self.n_bytes()
            ));
        }
        None
    }
}

impl std::fmt::Display for ImageShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let colour = match self.channels {
            1 => "grey",
            3 => "colour",
            _ => "of an unknown kind",
        };
        write!(f, "{} × {} {colour}", self.height, self.width)
    }
}

/// How the cells of an image column are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFormat {
    /// What every image must be.
    pub shape: ImageShape,
    /// Whether a cell is the pixels themselves (rows of pixels of channels) instead of a PNG or JPEG file.
    pub is_raw: bool,
}
