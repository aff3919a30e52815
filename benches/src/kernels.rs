//! Operations alone, beside what this machine can do at most: the share of that ceiling is what counts.

use std::{hint::black_box, time::Instant};

use karat_kernels::{
    conv_pool,
    conv2d::{self, Conv},
    max_pool,
    simd::vectorized,
    window::{Image, Window},
};
use rayon::prelude::*;
use serde_json::json;

use crate::{Row, Setup};

/// Pictures of a batch.
const BATCH: usize = 128;
/// The best of so many counts: other work on the machine only ever takes time.
const REPEATS: usize = 20;

/// Seconds of the fastest run.
fn best(mut work: impl FnMut()) -> f64 {
    let times = (0..REPEATS).map(|_| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

/// Multiply-adds in registers on all threads, nothing read or written: the ceiling of every product, in GFLOP/s.
fn ceiling() -> f64 {
    const N: u32 = 1 << 20;
    const WIDTH: usize = 12 * 16;
    let n_threads = rayon::current_num_threads();
    let seconds = best(|| {
        (0..n_threads).into_par_iter().for_each(|thread| {
            let factor = black_box(0.999_f32);
            let mut sums = [thread as f32; WIDTH];
            vectorized(
                #[inline(always)]
                || {
                    for _ in 0..N {
                        sums.iter_mut().for_each(|sum| *sum = sum.mul_add(factor, factor));
                    }
                },
            );
            black_box(sums);
        });
    });
    2.0 * f64::from(N) * (WIDTH * n_threads) as f64 / seconds / 1e9
}

/// GB/s of copying what no cache holds, bytes read and bytes written: the ceiling of every pass over memory.
fn copy_rate() -> f64 {
    let from = vec![1_u8; 256 << 20];
    let mut to = vec![0_u8; from.len()];
    let seconds = best(|| {
        let chunk = 1 << 20;
        to.par_chunks_mut(chunk).zip(from.par_chunks(chunk)).for_each(|(to, from)| {
            to.copy_from_slice(from);
        });
        black_box(&mut to);
    });
    2.0 * from.len() as f64 / seconds / 1e9
}

/// Convolutions as in the networks for pictures: forward, backward, alone and with their pool.
pub(crate) fn conv(_: &Setup) -> Result<Vec<Row>, String> {
    let ceiling = ceiling();
    let copy_rate = copy_rate();
    let mut rows = Vec::new();
    for (names, side, n_inputs, n_outputs) in [
        (
            [
                "conv 28x28x1 to 32: forward",
                "  forward, pool",
                "  backward, no dx",
                "  backward, no dx, pool",
            ],
            28,
            1,
            32,
        ),
        (
            ["conv 14x14x32 to 64: forward", "  forward, pool", "  backward", "  backward, pool"],
            14,
            32,
            64,
        ),
        (
            ["conv 32x32x64 to 64: forward", "  forward, pool", "  backward", "  backward, pool"],
            32,
            64,
            64,
        ),
        (
            ["conv 8x8x256 to 256: forward", "  forward, pool", "  backward", "  backward, pool"],
            8,
            256,
            256,
        ),
    ] {
        let input = Image { height: side, width: side, n_channels: n_inputs };
        let conv = Conv { input, n_outputs, window: Window { size: 3, stride: 1, padding: 1 } };
        let numbers =
            |n: usize| -> Vec<f32> { (0..n).map(|i| (i % 251) as f32 * 0.01 - 1.0).collect() };
        let (x, w) = (numbers(BATCH * input.len()), numbers(conv.n_taps() * n_outputs));
        let b = numbers(n_outputs);
        let mut y = vec![0.0; BATCH * conv.output().len()];
        let mut pooled = vec![0.0; BATCH * conv_pool::output(&conv, 2).len()];
        let mut winners = vec![0; pooled.len()];
        let wants_dx = 1 < n_inputs;
        let forward = 2.0 * (y.len() * conv.n_taps()) as f64 / 1e9;
        let backward = if wants_dx { 2.0 * forward } else { forward };
        let apart = best(|| conv2d::fused(&conv, &x, &w, &b, true, &mut y));
        let fused = best(|| conv_pool::fused(&conv, 2, &x, &w, &b, &mut pooled, &mut winners));
        let (image, window) = (conv.output(), Window::tiles(2));
        let pool = best(|| max_pool::fused(image, window, &y, &mut pooled, &mut winners));
        let kept = conv_pool::Kept { y: &pooled, winners: &winners };
        let fused_back = best(|| {
            black_box(conv_pool::backward(&conv, 2, &x, &w, kept, &pooled, wants_dx));
        });
        let mut dy = Vec::new();
        let pool_back = best(|| dy = max_pool::backward(image, window, &winners, &pooled, BATCH));
        let apart_back = best(|| {
            black_box(conv2d::backward(&conv, &x, &w, Some(&y), &dy, wants_dx));
        });
        for (job, flops, seconds, remark) in [
            (names[0], forward, apart, String::new()),
            (
                names[1],
                forward,
                fused,
                format!("one pass {:.2} of the two apart", fused / (apart + pool)),
            ),
            (names[2], backward, apart_back, String::new()),
            (
                names[3],
                backward,
                fused_back,
                format!("one pass {:.2} of the two apart", fused_back / (apart_back + pool_back)),
            ),
        ] {
            rows.push(Row {
                job,
                unit: "GFLOP/s",
                ours: flops / seconds,
                peer: Some(("ceiling".to_owned(), ceiling)),
                remark: format!("{:.2} ms {remark}", seconds * 1e3),
                details: json!({ "seconds": seconds, "batch": BATCH, "copy_gb_per_s": copy_rate }),
            });
        }
    }
    Ok(rows)
}
