//! `layer_norm`: each row is centred, scaled to unit variance and stretched: y = γ · (x − mean) / √(var + ε) + β, with mean
//! and var of that row alone (Ba, Kiros and Hinton 2016, "Layer Normalization").
//!
//! With a residual r, the rows of x + r are normalised: what a transformer with post-norm does after each sublayer.
//!
//! Why not burn's composed ops: nine passes over the activations where one is enough. The row sums are in f64 strands
//! ([`crate::sum`]), so that values of 1e30 neither overflow nor lose the small ones beside them.
//!
//! Backward, with x̂ = (x − mean) / std and g = dy · γ: dx = (g − mean(g) − x̂ · mean(g · x̂)) / std, dγ = Σ dy · x̂, dβ = Σ dy
//! over rows; the rows of a chunk are added in order, then the chunks.
//!
//! bound by: bytes, 4 read (8 with a residual) and 4 written an element.

use rayon::prelude::*;

use crate::{simd::vectorized, sum::strands};

/// Rows a thread takes at a time, and the rows of one partial sum of dγ and dβ.
const ROWS: usize = 64;

/// What the rows are stretched by. As wide as a row.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// γ.
    pub gamma: &'a [f32],
    /// β.
    pub beta: &'a [f32],
    /// Added to the variance.
    pub eps: f64,
}

/// Mean and 1/√(var + ε) of a row: what the backward pass needs of the forward pass.
pub type Moments = [f32; 2];

/// The definition, in f64. The width is that of `gamma`.
pub fn reference(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(gamma.len()) {
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let var = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let stretch = |((x, gamma), beta)| gamma * (x - mean) / (var + eps).sqrt() + beta;
        y.extend(row.iter().zip(gamma).zip(beta).map(stretch));
    }
    y
}

/// Writes y and the rows' moments.
pub fn fused(
    x: &[f32],
    residual: Option<&[f32]>,
    affine: Affine<'_>,
    y: &mut [f32],
    moments: &mut [Moments],
) {
    let width = affine.gamma.len();
    if width == 0 {
        return;
    }
    let chunks = y.par_chunks_mut(ROWS * width).zip(moments.par_chunks_mut(ROWS)).enumerate();
    chunks.for_each(|(chunk, (y, moments))| {
        let part = chunk * ROWS * width..chunk * ROWS * width + y.len();
        let (x, residual) = (&x[part.clone()], residual.map(|it| &it[part]));
        vectorized(
            #[inline(always)]
            || {
                match residual {
                    None => y.copy_from_slice(x),
                    Some(residual) => add(x, residual, y),
                }
                for (y, moments) in y.chunks_exact_mut(width).zip(moments) {
                    *moments = normalize(y, affine);
                }
            },
        );
    });
}

#[inline(always)]
fn add(x: &[f32], residual: &[f32], y: &mut [f32]) {
    for ((y, x), r) in y.iter_mut().zip(x).zip(residual) {
        *y = x + r;
    }
}

/// One row, in place.
#[inline(always)]
fn normalize(row: &mut [f32], affine: Affine<'_>) -> Moments {
    let n = row.len() as f64;
    let mean = strands(row, |x| x) / n;
    let var = strands(row, |x| (x - mean) * (x - mean)) / n;
    let (mean, scale) = (mean as f32, (1.0 / (var + affine.eps).sqrt()) as f32);
    for ((x, gamma), beta) in row.iter_mut().zip(affine.gamma).zip(affine.beta) {
        *x = ((*x - mean) * scale).mul_add(*gamma, *beta);
    }
    [mean, scale]
}

/// What flows back.
pub struct Gradients {
    /// Of x, and of the residual: they are the same.
    pub dx: Vec<f32>,
    /// Of γ.
    pub dgamma: Vec<f32>,
    /// Of β.
    pub dbeta: Vec<f32>,
}

/// The backward pass; x, residual and moments as in the forward pass.
pub fn backward(
    x: &[f32],
    residual: Option<&[f32]>,
    gamma: &[f32],
    moments: &[Moments],
    dy: &[f32],
) -> Gradients {
    let width = gamma.len();
    let mut gradients =
        Gradients { dx: vec![0.0; x.len()], dgamma: vec![0.0; width], dbeta: vec![0.0; width] };
    if width == 0 {
        return gradients;
    }
    let chunks = gradients.dx.par_chunks_mut(ROWS * width).zip(moments.par_chunks(ROWS));
    let partial = |(chunk, (dx, moments)): (usize, (&mut [f32], &[Moments]))| {
        let part = chunk * ROWS * width..chunk * ROWS * width + dx.len();
        let (x, dy) = (&x[part.clone()], &dy[part.clone()]);
        let residual = residual.map(|it| &it[part]);
        let (mut dgamma, mut dbeta) = (vec![0.0; width], vec![0.0; width]);
        vectorized(
            #[inline(always)]
            || {
                // dx holds x + r, then x̂, then dx.
                match residual {
                    None => dx.copy_from_slice(x),
                    Some(residual) => add(x, residual, dx),
                }
                let rows = dx.chunks_exact_mut(width).zip(dy.chunks_exact(width)).zip(moments);
                for ((dx, dy), moments) in rows {
                    row_backward(dx, dy, *moments, gamma, &mut dgamma, &mut dbeta);
                }
            },
        );
        (dgamma, dbeta)
    };
    let partials: Vec<(Vec<f32>, Vec<f32>)> = chunks.enumerate().map(partial).collect();
    for (dgamma, dbeta) in &partials {
        gradients.dgamma.iter_mut().zip(dgamma).for_each(|(sum, x)| *sum += x);
        gradients.dbeta.iter_mut().zip(dbeta).for_each(|(sum, x)| *sum += x);
    }
    gradients
}

#[inline(always)]
fn row_backward(
    x: &mut [f32],
    dy: &[f32],
    [mean, scale]: Moments,
    gamma: &[f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    const LANES: usize = 16;
    for (((x, dy), dgamma), dbeta) in x.iter_mut().zip(dy).zip(dgamma).zip(dbeta) {
        *x = (*x - mean) * scale;
        *dgamma = dy.mul_add(*x, *dgamma);
        *dbeta += dy;
    }
    let (mut sums, mut products) = ([0.0_f64; LANES], [0.0_f64; LANES]);
    for ((x, dy), gamma) in x.chunks(LANES).zip(dy.chunks(LANES)).zip(gamma.chunks(LANES)) {
        for (i, ((x, dy), gamma)) in x.iter().zip(dy).zip(gamma).enumerate() {
            let g = f64::from(dy * gamma);
            sums[i] += g;
            products[i] = g.mul_add(f64::from(*x), products[i]);
        }
    }
    let n = x.len() as f64;
    let mean = (sums.iter().sum::<f64>() / n) as f32;
    let slope = (products.iter().sum::<f64>() / n) as f32;
    for ((x, dy), gamma) in x.iter_mut().zip(dy).zip(gamma) {
        *x = scale * (-*x).mul_add(slope, dy * gamma - mean);
    }
}

#[cfg(feature = "burn")]
pub use op::{layer_norm, residual_layer_norm};

#[cfg(feature = "gpu")]
pub(crate) mod gpu;
#[cfg(feature = "burn")]
pub(crate) mod op;
#[cfg(test)]
mod tests;
