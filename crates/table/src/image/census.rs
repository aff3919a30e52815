//! Counting the images of a column: sizes, and the bytes of every channel.
//!
//! Sums are of whole numbers and exact, so neither the order of rows nor the number of threads matters.

use std::collections::BTreeMap;

use arrow::array::{Array as _, AsArray as _};
use arrow::buffer::BooleanBuffer;
use karat_core::ImageShape;

use crate::cast::Cast;

/// What was counted so far.
pub(crate) struct Census {
    /// What every image should be.
    pub(crate) shape: ImageShape,
    /// Images of that shape.
    pub(crate) n: u64,
    /// Sum of bytes and of their squares, one pair a channel.
    sums: Vec<[u64; 2]>,
    /// Height and width of the images that can be read and have another size.
    others: BTreeMap<(u32, u32), u64>,
}

impl Census {
    /// Nothing counted yet.
    pub(crate) fn new(shape: ImageShape) -> Self {
        let sums = vec![[0; 2]; shape.channels as usize];
        Self { shape, n: 0, sums, others: BTreeMap::new() }
    }

    /// Adds the images of the rows `is_in`.
    pub(crate) fn add(&mut self, column: &Cast, is_in: &BooleanBuffer) {
        let images = column.array.as_fixed_size_binary();
        for i in is_in.set_indices() {
            if images.is_null(i) {
                if let Some(size) = column.other_size(i) {
                    *self.others.entry(size).or_default() += 1;
                }
                continue;
            }
            self.n += 1;
            let planes = images.value(i).chunks_exact(self.shape.n_pixels());
            for (sums, plane) in self.sums.iter_mut().zip(planes) {
                // A plane has at most 2²⁴ bytes: 2²³ of the largest images fit into 64 bits.
                sums[0] += plane.iter().map(|it| u64::from(*it)).sum::<u64>();
                sums[1] += plane.iter().map(|it| u64::from(*it).pow(2)).sum::<u64>();
            }
        }
    }

    /// Whether an image that can be read has another size.
    pub(crate) fn has_other_sizes(&self) -> bool {
        !self.others.is_empty()
    }

    /// Every size with its images, the commonest first.
    pub(crate) fn sizes(&self) -> Vec<(String, u64)> {
        let mut sizes = self.others.clone();
        if 0 < self.n {
            sizes.insert((self.shape.height, self.shape.width), self.n);
        }
        by_count(sizes)
    }

    /// Mean byte and population standard deviation of each channel, 0 to 255; nothing of no images.
    pub(crate) fn moments(&self) -> impl Iterator<Item = (f64, f64)> {
        let n = (self.n * self.shape.n_pixels() as u64) as f64;
        let moments = move |sums: &[u64; 2]| {
            let mean = sums[0] as f64 / n;
            (mean, (sums[1] as f64 / n - mean * mean).max(0.0).sqrt())
        };
        self.sums.iter().filter(|_| 0 < self.n).map(moments)
    }
}

/// Sizes as words (height × width), the commonest first.
pub(crate) fn by_count(sizes: BTreeMap<(u32, u32), u64>) -> Vec<(String, u64)> {
    let mut sizes: Vec<(String, u64)> =
        sizes.into_iter().map(|((h, w), n)| (format!("{h} × {w}"), n)).collect();
    sizes.sort_by_key(|it| std::cmp::Reverse(it.1));
    sizes
}
