//! Sizes in a kernel, and which windows cover a pixel.

use cubecl::prelude::*;

use super::{Image, Window};

/// A picture, the windows over it, and how many there are along it.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) n_channels: usize,
    pub(crate) n_rows: usize,
    pub(crate) n_columns: usize,
    pub(crate) size: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

/// `window` over `image`.
pub(crate) fn sizes(image: Image, window: Window) -> SizesLaunch {
    let output = window.over(image, image.n_channels);
    SizesLaunch::new(
        image.height,
        image.width,
        image.n_channels,
        output.height,
        output.width,
        window.size,
        window.stride,
        window.padding,
    )
}

/// The first window that covers `at`, counted from the padding's edge.
#[cube]
pub(crate) fn first(at: usize, size: usize, stride: usize) -> usize {
    let mut first = 0;
    if size <= at {
        first = (at - size) / stride + 1;
    }
    first
}

/// One past the last of `n` windows that covers `at`.
#[cube]
pub(crate) fn end(at: usize, stride: usize, n: usize) -> usize {
    let mut end = at / stride + 1;
    if n < end {
        end = n;
    }
    end
}
