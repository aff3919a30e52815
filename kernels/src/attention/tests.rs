//! Against the definition, finite differences, thread counts, neighbours and padding, and burn's composed ops.

use super::{KEYS, Shape, fused, reference};
use crate::testing::{assert_same_bits, on_any_threads, uniform, wide};

fn shape(length: usize, n_heads: usize, head_width: usize, is_causal: bool) -> Shape {
    Shape { length, n_heads, head_width, is_causal }
}

fn run(qkv: &[f32], lengths: &[i32], shape: Shape) -> (Vec<f32>, Vec<f32>) {
    let n_rows = lengths.len() * shape.length;
    let mut out = vec![f32::NAN; n_rows * shape.width()];
    let mut log_sums = vec![f32::NAN; n_rows * shape.n_heads];
    fused(qkv, lengths, shape, &mut out, &mut log_sums);
    (out, log_sums)
}

fn backward(
    qkv: &[f32],
    lengths: &[i32],
    shape: Shape,
    out: &[f32],
    log_sums: &[f32],
    dout: &[f32],
) -> Vec<f32> {
    let mut dqkv = vec![f32::NAN; qkv.len()];
    super::backward(qkv, lengths, shape, out, log_sums, dout, &mut dqkv);
    dqkv
}

/// Queries and keys spread wide enough that weights differ.
fn projected(seed: u32, n_sequences: usize, shape: Shape) -> Vec<f32> {
    let x = uniform(seed, n_sequences * shape.length * 3 * shape.width());
    x.iter().map(|x| 3.0 * x).collect()
}

#[track_caller]
fn assert_close(expected: &[f64], found: &[f32], bound: f64, case: impl std::fmt::Debug) {
    assert_eq!(expected.len(), found.len(), "{case:?}");
    for (i, (x, y)) in expected.iter().zip(found).enumerate() {
        let error = (x - f64::from(*y)).abs() / (1.0 + x.abs());
        assert!(error < bound, "{case:?}: element {i} is {y}, expected {x}");
    }
}

const SIZES: [(usize, usize, usize, [i32; 2]); 8] = [
    (1, 1, 1, [1, 1]),
    (1, 2, 33, [1, 0]),
    (5, 1, 3, [5, 2]),
    (15, 3, 24, [15, 1]),
    (25, 1, 8, [9, 25]),
    (128, 2, 32, [128, 100]),
    (257, 1, 16, [257, 255]),
    (600, 1, 5, [513, 600]),
];

#[test]
fn matches_reference_at_awkward_sizes() {
    for (length, n_heads, head_width, lengths) in SIZES {
        for is_causal in [false, true] {
            let shape = shape(length, n_heads, head_width, is_causal);
            let qkv = projected(1, 2, shape);
            let expected = reference(&wide(&qkv), &lengths, shape);
            let (found, _) = run(&qkv, &lengths, shape);
            assert_close(&expected, &found, 5e-6, (shape, lengths));
        }
    }
    let none = shape(7, 2, 4, false);
    assert!(run(&[], &[], none).0.is_empty());
    assert!(backward(&[], &[], none, &[], &[], &[]).is_empty());
}

#[test]
fn a_sequence_without_keys_gives_zeros_and_no_gradient() {
    let shape = shape(6, 2, 4, false);
    let qkv = projected(1, 2, shape);
    let lengths = [0, 6];
    let (out, log_sums) = run(&qkv, &lengths, shape);
    assert_same_bits(&[0.0; 48], &out[..48], "no key");
    let dqkv = backward(&qkv, &lengths, shape, &out, &log_sums, &uniform(2, out.len()));
    assert_same_bits(&[0.0; 144], &dqkv[..144], "no key, no gradient");
    assert!(dqkv[144..].iter().any(|x| 0.0 < x.abs()));
    // A length beyond the sequence is all of it, one below zero is nothing.
    let (clamped, _) = run(&qkv, &[-3, 99], shape);
    assert_same_bits(&out, &clamped, "lengths out of range");
}

#[test]
fn padding_is_never_read_as_a_key_and_changes_no_bit() {
    let wide_shape = shape(300, 2, 12, false);
    let mut qkv = projected(1, 1, wide_shape);
    let row = 3 * wide_shape.width();
    for is_causal in [false, true] {
        let (long, short) = (shape(300, 2, 12, is_causal), shape(270, 2, 12, is_causal));
        let (alone, _) = run(&qkv[..270 * row], &[270], short);
        qkv[270 * row..].fill(f32::NAN);
        let (padded, _) = run(&qkv, &[270], long);
        assert_same_bits(&alone, &padded[..alone.len()], is_causal);
    }
}

#[test]
fn a_causal_position_does_not_see_what_follows() {
    let shape = shape(270, 1, 8, true);
    let mut qkv = projected(1, 1, shape);
    let (before, _) = run(&qkv, &[270], shape);
    let (row, seen) = (3 * shape.width(), 260);
    qkv[seen * row..].iter_mut().for_each(|x| *x = 2.0 - *x);
    let (after, _) = run(&qkv, &[270], shape);
    let n = seen * shape.width();
    assert_same_bits(&before[..n], &after[..n], "the past");
    assert!(before[n..] != after[n..]);
}

#[test]
fn huge_scores_choose_one_key_and_nan_and_infinity_show() {
    let shape = shape(3, 1, 1, false);
    // q, k, v of three positions. The second key fits best by far.
    let mut qkv = [1e15, 1.0, 5.0, -1e15, 1e15, 7.0, 1e-30, 1.0, 9.0];
    let (out, _) = run(&qkv, &[3], shape);
    assert_same_bits(&[7.0], &out[..1], "the best key");
    assert_close(&[7.0, 7.0], &out[1..], 1.0, "a mean of the others, of all");
    for bad in [f32::NAN, f32::INFINITY] {
        qkv[3] = bad;
        let (out, _) = run(&qkv, &[3], shape);
        assert!(out[1].is_nan() && !out[0].is_nan(), "a bad query shows in its own row: {out:?}");
        qkv[4] = bad;
        assert!(run(&qkv, &[3], shape).0[0].is_nan(), "a bad key shows");
        qkv[4] = 1e15;
        qkv[5] = bad;
        assert!(!run(&qkv, &[3], shape).0[0].is_finite(), "a bad value shows");
        qkv[5] = 7.0;
    }
}

#[test]
fn gradients_match_finite_differences() {
    for (length, n_heads, head_width, lengths) in [(5, 2, 3, [5, 3]), (4, 1, 2, [0, 4])] {
        for is_causal in [false, true] {
            let shape = shape(length, n_heads, head_width, is_causal);
            let qkv = projected(1, 2, shape);
            let c = uniform(2, qkv.len() / 3);
            let (out, log_sums) = run(&qkv, &lengths, shape);
            let found = backward(&qkv, &lengths, shape, &out, &log_sums, &c);
            for (at, found) in found.iter().enumerate() {
                let moved = |by: f64| -> f64 {
                    let mut qkv = wide(&qkv);
                    qkv[at] += by;
                    let out = reference(&qkv, &lengths, shape);
                    out.iter().zip(&c).map(|(out, c)| out * f64::from(*c)).sum()
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let error = (f64::from(*found) - expected).abs();
                assert!(error < 2e-5, "{shape:?} {at}: {found}, not {expected}");
            }
        }
    }
}

/// Sizes with more than one block: along a random direction the gradient is the slope.
#[test]
fn gradients_match_the_slope_across_blocks() {
    for is_causal in [false, true] {
        let shape = shape(KEYS + 30, 1, 4, is_causal);
        let lengths = [KEYS as i32 + 9];
        let qkv = projected(1, 1, shape);
        let (direction, c) = (uniform(3, qkv.len()), uniform(2, qkv.len() / 3));
        let (out, log_sums) = run(&qkv, &lengths, shape);
        let found = backward(&qkv, &lengths, shape, &out, &log_sums, &c);
        let found: f64 = found.iter().zip(&direction).map(|(g, d)| f64::from(g * d)).sum();
        let moved = |by: f64| -> f64 {
            let at = qkv.iter().zip(&direction).map(|(x, d)| f64::from(*x) + by * f64::from(*d));
            let out = reference(&at.collect::<Vec<f64>>(), &lengths, shape);
            out.iter().zip(&c).map(|(out, c)| out * f64::from(*c)).sum()
        };
        let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((found - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{found} {expected}");
    }
}

#[test]
fn bits_do_not_depend_on_threads_or_neighbours() {
    let shape = shape(130, 3, 10, false);
    let (qkv, lengths) = (projected(1, 3, shape), [130, 77, 101]);
    let c = uniform(2, qkv.len() / 3);
    let bits = on_any_threads(|| {
        let (out, log_sums) = run(&qkv, &lengths, shape);
        let dqkv = backward(&qkv, &lengths, shape, &out, &log_sums, &c);
        [out, log_sums, dqkv].concat().iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
    });
    let row = 3 * shape.width();
    let (alone, _) = run(&qkv[130 * row..260 * row], &[77], shape);
    let alone: Vec<u32> = alone.iter().map(|x| x.to_bits()).collect();
    assert_eq!(bits[130 * shape.width()..260 * shape.width()], alone);
}

#[cfg(feature = "burn")]
#[test]
fn burn_runs_it_and_its_composed_ops_agree() {
    use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};

    use crate::testing::elements;

    let device = Device::flex().autodiff();
    let (n, length, n_heads, d) = (2, 9, 3, 4);
    let shape = shape(length, n_heads, d, true);
    let width = shape.width();
    // Stored transposed: not contiguous.
    let stored = TensorData::new(projected(1, n, shape), [3 * width, n * length]);
    let stored = Tensor::<2>::from_data(stored, &device).require_grad();
    let lengths = Tensor::<1, Int>::from_data([length as i32, 5], (&device, DType::I32));
    let c = Tensor::<2>::from_data(
        TensorData::new(uniform(2, n * length * width), [n * length, width]),
        &device,
    );
    let run = |out: Tensor<2>| {
        let gradients = (out.clone() * c.clone()).sum().backward();
        [elements(out.inner()), elements(stored.grad(&gradients).expect("dqkv"))].concat()
    };
    let ours = run(super::attention(stored.clone().transpose(), lengths, shape));
    let qkv = stored.clone().transpose();
    let part = |i: usize| {
        let part = qkv.clone().slice([0..n * length, i * width..(i + 1) * width]);
        part.reshape([n, length, n_heads, d]).swap_dims(1, 2)
    };
    let hidden: Vec<f32> = (0..n * length * length)
        .map(|at| {
            let (b, i, j) = (at / (length * length), at / length % length, at % length);
            let is_seen = j <= i && (b == 0 || j < 5);
            if is_seen { 0.0 } else { f32::NEG_INFINITY }
        })
        .collect();
    let hidden = Tensor::<4>::from_data(TensorData::new(hidden, [n, 1, length, length]), &device);
    let scores = part(0).matmul(part(1).swap_dims(2, 3)) / (d as f32).sqrt() + hidden;
    let composed = activation::softmax(scores, 3).matmul(part(2)).swap_dims(1, 2);
    let composed = run(composed.reshape([n * length, width]));
    for (ours, composed) in ours.iter().zip(&composed) {
        assert!((ours - composed).abs() < 2e-5, "{ours}, composed {composed}");
    }
}
