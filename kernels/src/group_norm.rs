//! `group_norm`: the channels of a picture are cut into groups; each group is centred and scaled to unit variance over its
//! channels and all pixels, then stretched by channel: y = γ · (x − mean) / √(var + ε) + β, optionally cut at zero (ReLU)
//! (Wu and He 2018, "Group Normalization").
//!
//! Pictures are channels-last ([`crate::window`]).
//!
//! Why not batch norm: a row's training result would depend on its neighbours, and scoring on statistics that are neither
//! parameters nor gradients (docs/design/014-group-norm.md).
//!
//! Why not burn's composed ops: nine passes over the activations where two are enough. Sums are f64, so that values of 1e30
//! neither overflow nor lose the small ones beside them.
//!
//! Backward, with dz = dy where 0 < y (all of dy without ReLU), x̂ = (x − mean) / std and g = dz · γ: dx = (g − mean(g) − x̂ · mean(g · x̂)) / std with
//! the means of the group, dγ = Σ dz · x̂, dβ = Σ dz.
//!
//! **Bits.** Sums go over the pixels of a channel in scan order, then over the channels of the group, then, for dγ and dβ, over
//! pictures.
//!
//! bound by: bytes.

use rayon::prelude::*;

use crate::{simd::vectorized, window::Image};

#[cfg(feature = "gpu")]
pub(crate) mod gpu;
#[cfg(feature = "burn")]
pub(crate) mod op;
#[cfg(test)]
mod tests;

#[cfg(feature = "burn")]
pub use op::group_norm;

/// Added to the variance, as in PyTorch.
pub const EPS: f64 = 1e-5;

/// Sizes and what is done at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norm {
    /// A picture.
    pub image: Image,
    /// Groups; a divisor of the channels.
    pub n_groups: usize,
    /// Negative results become 0. NaN stays NaN.
    pub relu: bool,
}

impl Norm {
    /// Channels of a group.
    const fn width(&self) -> usize {
        self.image.n_channels / self.n_groups
    }

    fn assert_sound(&self, gamma: &[f32], beta: &[f32]) {
        assert!(
            0 < self.n_groups && self.image.n_channels.is_multiple_of(self.n_groups),
            "{} groups of {} channels",
            self.n_groups,
            self.image.n_channels
        );
        assert_eq!(gamma.len(), self.image.n_channels, "one γ a channel");
        assert_eq!(beta.len(), self.image.n_channels, "one β a channel");
    }
}

/// Mean and 1 / √(var + ε) of a group: what the backward pass needs of the forward pass.
pub type Moments = [f32; 2];

/// The definition, in f64.
pub fn reference(norm: &Norm, x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
    let n_channels = norm.image.n_channels;
    let mut y = x.to_vec();
    for picture in y.chunks_exact_mut(norm.image.len().max(1)) {
        for group in 0..norm.n_groups {
            let is_own = |at: &usize| at % n_channels / norm.width() == group;
            let own: Vec<usize> = (0..picture.len()).filter(is_own).collect();
            let n = own.len() as f64;
            let mean = own.iter().map(|at| picture[*at]).sum::<f64>() / n;
            let var = own.iter().map(|at| (picture[*at] - mean).powi(2)).sum::<f64>() / n;
            for at in own {
                let channel = at % n_channels;
                let z = gamma[channel] * (picture[at] - mean) / (var + EPS).sqrt() + beta[channel];
                picture[at] = if norm.relu && z < 0.0 { 0.0 } else { z };
            }
        }
    }
    y
}

/// Writes y, and the moments of each picture's groups.
pub fn fused(
    norm: &Norm,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    y: &mut [f32],
    moments: &mut [Moments],
) {
    norm.assert_sound(gamma, beta);
    assert_eq!(x.len(), y.len(), "one number for each");
    assert_eq!(moments.len(), norm.image.n_in(x) * norm.n_groups, "one a group");
    if y.is_empty() {
        return;
    }
    let pictures =
        y.par_chunks_exact_mut(norm.image.len()).zip(x.par_chunks_exact(norm.image.len()));
    pictures.zip(moments.par_chunks_exact_mut(norm.n_groups)).for_each(|((y, x), moments)| {
        vectorized(
            #[inline(always)]
            || picture(norm, x, gamma, beta, y, moments),
        );
    });
}

#[inline(always)]
fn picture(
    norm: &Norm,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    y: &mut [f32],
    moments: &mut [Moments],
) {
    let n_channels = norm.image.n_channels;
    let mut sums = vec![0.0_f64; n_channels];
    for pixel in x.chunks_exact(n_channels) {
        sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let means = group_means(norm, &sums);
    let mean_of: Vec<f64> = (0..n_channels).map(|channel| means[channel / norm.width()]).collect();
    sums.fill(0.0);
    for pixel in x.chunks_exact(n_channels) {
        for ((sum, x), mean) in sums.iter_mut().zip(pixel).zip(&mean_of) {
            let centred = f64::from(*x) - mean;
            *sum += centred * centred;
        }
    }
    for ((moments, mean), var) in moments.iter_mut().zip(&means).zip(group_means(norm, &sums)) {
        *moments = [*mean as f32, (1.0 / (var + EPS).sqrt()) as f32];
    }
    let (mean, scale) = by_channel(norm, moments);
    for (y, x) in y.chunks_exact_mut(n_channels).zip(x.chunks_exact(n_channels)) {
        let stretched =
            y.iter_mut().zip(x).zip(mean.iter().zip(&scale)).zip(gamma.iter().zip(beta));
        for (((y, x), (mean, scale)), (gamma, beta)) in stretched {
            let z = ((x - mean) * scale).mul_add(*gamma, *beta);
            *y = if norm.relu && z < 0.0 { 0.0 } else { z };
        }
    }
}

/// The mean over each group's channels and pixels, from the sums over pixels.
#[inline(always)]
fn group_means(norm: &Norm, sums: &[f64]) -> Vec<f64> {
    let n = (norm.width() * norm.image.n_pixels()) as f64;
    sums.chunks_exact(norm.width()).map(|sums| sums.iter().sum::<f64>() / n).collect()
}

/// The moments of each channel's group.
#[inline(always)]
fn by_channel(norm: &Norm, moments: &[Moments]) -> (Vec<f32>, Vec<f32>) {
    let each = |which: usize| {
        (0..norm.image.n_channels).map(|channel| moments[channel / norm.width()][which]).collect()
    };
    (each(0), each(1))
}

/// What flows back.
pub struct Gradients {
    /// Of x.
    pub dx: Vec<f32>,
    /// Of γ.
    pub dgamma: Vec<f32>,
    /// Of β.
    pub dbeta: Vec<f32>,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    /// What was normalised.
    pub x: &'a [f32],
    /// The result, with ReLU only.
    pub y: Option<&'a [f32]>,
    /// Of each picture's groups.
    pub moments: &'a [Moments],
}

/// The backward pass.
#[must_use]
pub fn backward(norm: &Norm, kept: Kept<'_>, gamma: &[f32], dy: &[f32]) -> Gradients {
    norm.assert_sound(gamma, gamma);
    let (n_channels, len) = (norm.image.n_channels, norm.image.len());
    let mut dx = vec![0.0; dy.len()];
    // dγ and dβ of each picture.
    let mut shares = vec![0.0_f64; norm.image.n_in(dy) * 2 * n_channels];
    if !dx.is_empty() {
        let pictures =
            dx.par_chunks_exact_mut(len).zip(shares.par_chunks_exact_mut(2 * n_channels));
        pictures.enumerate().for_each(|(picture, (dx, shares))| {
            let part = picture * len..(picture + 1) * len;
            let (x, y) = (&kept.x[part.clone()], kept.y.map(|y| &y[part.clone()]));
            let moments = &kept.moments[picture * norm.n_groups..][..norm.n_groups];
            vectorized(
                #[inline(always)]
                || picture_backward(norm, x, y, moments, gamma, &dy[part], dx, shares),
            );
        });
    }
    let mut sums = vec![0.0_f64; 2 * n_channels];
    for shares in shares.chunks_exact(2 * n_channels) {
        sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share);
    }
    let narrow = |sums: &[f64]| sums.iter().map(|sum| *sum as f32).collect();
    let (dgamma, dbeta) = sums.split_at(n_channels);
    Gradients { dx, dgamma: narrow(dgamma), dbeta: narrow(dbeta) }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one picture's part of everything")]
fn picture_backward(
    norm: &Norm,
    x: &[f32],
    y: Option<&[f32]>,
    moments: &[Moments],
    gamma: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    shares: &mut [f64],
) {
    let n_channels = norm.image.n_channels;
    let (mean, scale) = by_channel(norm, moments);
    // dx holds dz first.
    match y {
        None => dx.copy_from_slice(dy),
        Some(y) => {
            for ((dz, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                // NaN must stay visible: `y <= 0` is false for it.
                *dz = if *y <= 0.0 { 0.0 } else { *dy };
            }
        }
    }
    let (dgamma, dbeta) = shares.split_at_mut(n_channels);
    for (dz, x) in dx.chunks_exact(n_channels).zip(x.chunks_exact(n_channels)) {
        let sums = dgamma.iter_mut().zip(&mut *dbeta).zip(mean.iter().zip(&scale));
        for (((dgamma, dbeta), (mean, scale)), (dz, x)) in sums.zip(dz.iter().zip(x)) {
            *dgamma += f64::from(*dz) * f64::from((x - mean) * scale);
            *dbeta += f64::from(*dz);
        }
    }
    // The means over a group of g · x̂ and of g.
    let weighted = |sums: &[f64]| {
        let sums: Vec<f64> =
            sums.iter().zip(gamma).map(|(x, gamma)| x * f64::from(*gamma)).collect();
        let means = group_means(norm, &sums);
        (0..n_channels).map(|channel| means[channel / norm.width()] as f32).collect::<Vec<f32>>()
    };
    let (along, level) = (weighted(dgamma), weighted(dbeta));
    for (dz, x) in dx.chunks_exact_mut(n_channels).zip(x.chunks_exact(n_channels)) {
        let moments = mean.iter().zip(&scale).zip(along.iter().zip(&level));
        for ((dz, x), (((mean, scale), (along, level)), gamma)) in
            dz.iter_mut().zip(x).zip(moments.zip(gamma))
        {
            let normal = (x - mean) * scale;
            *dz = normal.mul_add(-along, dz.mul_add(*gamma, -level)) * scale;
        }
    }
}
