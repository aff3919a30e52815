//! Pictures and the windows that slide over them: the sizes that [`crate::conv2d`] and the pools share.
//!
//! Pictures lie channels-last, image × row × column × channel: the numbers under one row of a window are adjacent, which is
//! what the products read.

#[cfg(feature = "gpu")]
pub(crate) mod gpu;

/// Size of one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels a row.
    pub width: usize,
    /// Numbers a pixel.
    pub n_channels: usize,
}

impl Image {
    /// Numbers a picture.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.height * self.row_len()
    }

    /// Whether it has no number.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pixels.
    #[must_use]
    pub const fn n_pixels(&self) -> usize {
        self.height * self.width
    }

    /// Numbers a row of pixels.
    #[must_use]
    pub const fn row_len(&self) -> usize {
        self.width * self.n_channels
    }

    /// Pictures in `elements`; none when a picture has no number.
    #[must_use]
    pub const fn n_in(&self, elements: &[f32]) -> usize {
        if self.is_empty() { 0 } else { elements.len() / self.len() }
    }
}

/// A square window and how it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Pixels high and wide, at least 1.
    pub size: usize,
    /// Pixels it moves at a time, at least 1.
    pub stride: usize,
    /// Pixels outside the picture on each side that it may look at.
    pub padding: usize,
}

impl Window {
    /// A window that covers each pixel once: what pools usually are.
    #[must_use]
    pub const fn tiles(size: usize) -> Self {
        Self { size, stride: size, padding: 0 }
    }

    /// Places it takes along `length` pixels; 0 when it is larger than they and their padding are.
    #[must_use]
    pub const fn places(&self, length: usize) -> usize {
        match (length + 2 * self.padding).checked_sub(self.size) {
            Some(room) => room / self.stride + 1,
            None => 0,
        }
    }

    /// One pixel of `n_channels` for each place over `image`.
    #[must_use]
    pub const fn over(&self, image: Image, n_channels: usize) -> Image {
        Image { height: self.places(image.height), width: self.places(image.width), n_channels }
    }

    /// The pixels of a row or column that it covers at place `at`, as the first of its own and where that one lies.
    pub(crate) const fn covers(&self, at: usize, length: usize) -> Covered {
        let begin = at * self.stride;
        // Own pixels before the picture.
        let skipped = self.padding.saturating_sub(begin);
        let first = (begin + skipped).saturating_sub(self.padding);
        let end = (begin + self.size).saturating_sub(self.padding);
        let end = if end < length { end } else { length };
        Covered { skipped, first, len: end.saturating_sub(first) }
    }
}

/// What a window covers along one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    /// Of its own pixels, those before the picture.
    pub(crate) skipped: usize,
    /// First pixel of the picture.
    pub(crate) first: usize,
    /// Pixels of the picture.
    pub(crate) len: usize,
}

#[cfg(test)]
mod tests {
    use super::{Covered, Window};

    #[test]
    fn places_are_counted_and_covered_as_drawn_by_hand() {
        // Pixels 0..5 with one of padding: windows of 3 begin at -1, 1, 3.
        let window = Window { size: 3, stride: 2, padding: 1 };
        assert_eq!(window.places(5), 3);
        let covered = [0, 1, 2].map(|at| window.covers(at, 5));
        let expected = [(1, 0, 2), (0, 1, 3), (0, 3, 2)];
        assert_eq!(covered, expected.map(|(skipped, first, len)| Covered { skipped, first, len }));
        assert_eq!(Window::tiles(2).places(5), 2);
        assert_eq!(Window::tiles(2).places(1), 0);
    }
}
