//! Every level against the definition, in both precisions, at awkward sizes.

use super::{
    Epilogue, Level, Packed, Precision, bf16, column_sums, reference, rows_times, transposed_times,
};
use crate::activation::Activation;
use crate::testing::{assert_same_bits, on_any_threads, uniform};

const SIZES: [(usize, usize, usize); 16] = [
    (1, 1, 1),
    (97, 300, 1),
    (8, 513, 1),
    (200, 2, 1),
    (3, 0, 1),
    (1, 5, 1),
    (2, 3, 17),
    (6, 4, 16),
    (7, 16, 15),
    (12, 256, 32),
    (13, 257, 33),
    (95, 1, 31),
    (97, 38, 48),
    (193, 513, 5),
    (1, 600, 40),
    (5, 0, 3),
];

fn transpose(x: &[f32], n_rows: usize, n_columns: usize) -> Vec<f32> {
    let element = |at: usize| x[at % n_rows.max(1) * n_columns + at / n_rows.max(1)];
    (0..n_rows * n_columns).map(element).collect()
}

fn naive(a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize)) -> Vec<f32> {
    if k == 0 { vec![0.0; m * n] } else { reference(a, b, k, n) }
}

#[test]
fn matches_reference_bit_for_bit_at_awkward_sizes_on_every_level() {
    for (m, k, n) in SIZES {
        let (a, b) = (uniform(1, m * k), uniform(2, k * n));
        let expected = naive(&a, &b, (m, k, n));
        for level in Level::available() {
            let case = (level, m, k, n);
            let mut c = vec![f32::NAN; m * n];
            let packed = Packed::at(level, Precision::F32, &b, k, n);
            rows_times(&a, &packed, Epilogue::default(), &mut c);
            assert_same_bits(&expected, &c, case);

            c.fill(f32::NAN);
            let twice = Packed::transpose_at(level, Precision::F32, &transpose(&b, k, n), k, n);
            rows_times(&a, &twice, Epilogue::default(), &mut c);
            assert_same_bits(&expected, &c, case);

            c.fill(f32::NAN);
            transposed_times(&transpose(&a, m, k), &packed, &mut c);
            assert_same_bits(&expected, &c, case);
        }
    }
}

#[test]
fn epilogue_adds_the_bias_then_cuts_at_zero_and_keeps_nan() {
    for (m, k, n) in SIZES {
        let (mut a, b, bias) = (uniform(1, m * k), uniform(2, k * n), uniform(3, n));
        if let Some(first) = a.first_mut() {
            *first = f32::NAN;
        }
        let mut expected = naive(&a, &b, (m, k, n));
        for (i, x) in expected.iter_mut().enumerate() {
            *x += bias[i % n];
            *x = if *x < 0.0 { 0.0 } else { *x };
        }
        for level in Level::available() {
            let mut c = vec![7.0; m * n];
            let packed = Packed::at(level, Precision::F32, &b, k, n);
            let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu };
            rows_times(&a, &packed, epilogue, &mut c);
            for (i, (x, y)) in expected.iter().zip(&c).enumerate() {
                let is_same = x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
                assert!(is_same, "{level:?} {m}x{k}x{n}: element {i} is {y}, expected {x}");
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let (m, k, n) = (500, 300, 70);
    let (a, b) = (uniform(1, m * k), uniform(2, k * n));
    let bits = on_any_threads(|| {
        let mut c = vec![0.0; m * n];
        rows_times(&a, &Packed::new(&b, k, n), Epilogue::default(), &mut c);
        let mut d = vec![0.0; k * n];
        // a, read as k_rows = m: transpose(a) is k × m.
        transposed_times(&a, &Packed::new(&c, m, n), &mut d);
        let sums = column_sums(&c, n);
        c.extend(d);
        c.extend(sums);
        c.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
    });
    assert!(bits.iter().any(|it| *it != 0));
}

/// The sum of a row does not depend on how many rows there are or where it stands.
#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let (k, n) = (300, 40);
    let (a, b) = (uniform(1, 200 * k), uniform(2, k * n));
    let packed = Packed::new(&b, k, n);
    let mut whole = vec![0.0; 200 * n];
    rows_times(&a, &packed, Epilogue::default(), &mut whole);
    for n_rows in [1, 2, 7, 64] {
        for (a, expected) in a.chunks(n_rows * k).zip(whole.chunks(n_rows * n)) {
            let mut c = vec![0.0; expected.len()];
            rows_times(a, &packed, Epilogue::default(), &mut c);
            assert_same_bits(expected, &c, n_rows);
        }
    }
}

#[test]
fn columns_are_summed_in_row_order() {
    // In f32, 1e8 - 1e8 + 1 is 1 from the top and 0 from the bottom: the order is visible.
    assert_same_bits(&[1.0, 6.0], &column_sums(&[1e8, 1.0, -1e8, 2.0, 1.0, 3.0], 2), "order");
    assert_same_bits(&[0.0; 3], &column_sums(&[], 3), "no row");
    let x = uniform(1, 7 * 257);
    let last = x.iter().skip(256).step_by(257).fold(0.0, |sum, x| sum + x);
    assert_same_bits(&[last], &column_sums(&x, 257)[256..], "last of three pieces");
}

/// bf16 is the chain of f32 over rounded operands: where there is an instruction for it, it gives the same bits.
#[test]
fn bf16_is_the_chain_over_rounded_operands_on_every_level() {
    // From 1e-9 to 1e9, so that sums cancel and products are far apart.
    let wide = |seed, n: usize| {
        let exponent = uniform(seed + 100, n);
        let scale = exponent.iter().map(|x| 10.0_f32.powi((x * 9.0) as i32));
        uniform(seed, n).iter().zip(scale).map(|(x, scale)| x * scale).collect::<Vec<f32>>()
    };
    for (m, k, n) in SIZES {
        let (mut a, b, bias) = (wide(1, m * k), wide(2, k * n), wide(3, n));
        if let [first, second, ..] = &mut a[..] {
            (*first, *second) = (1e-41, f32::INFINITY);
        }
        let rounded = [bf16::all_rounded(&a), bf16::all_rounded(&b)];
        let expected = naive(&rounded[0], &rounded[1], (m, k, n));
        let biased = expected.iter().enumerate().map(|(i, x)| (x + bias[i % n]).max(0.0));
        let biased: Vec<f32> = biased.collect();
        let same = |expected: &[f32], found: &[f32], case: (Level, usize, usize, usize)| {
            for (i, (x, y)) in expected.iter().zip(found).enumerate() {
                let is_same = x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
                assert!(is_same, "{case:?}: element {i} is {y}, expected {x}");
            }
        };
        for level in Level::available() {
            let case = (level, m, k, n);
            let mut c = vec![f32::NAN; m * n];
            let packed = Packed::at(level, Precision::Bf16, &b, k, n);
            rows_times(&a, &packed, Epilogue::default(), &mut c);
            same(&expected, &c, case);

            c.fill(f32::NAN);
            let b = transpose(&b, k, n);
            let twice = Packed::transpose_at(level, Precision::Bf16, &b, k, n);
            let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu };
            rows_times(&a, &twice, epilogue, &mut c);
            let is_nan = |x: &f32| x.is_nan();
            if !expected.iter().any(is_nan) {
                same(&biased, &c, case);
            }

            c.fill(f32::NAN);
            transposed_times(&transpose(&a, m, k), &packed, &mut c);
            same(&expected, &c, case);
        }
    }
}

/// What is left of a difference: partial sums too small for a normal number.
#[test]
fn bf16_sums_below_the_smallest_normal_number_may_be_zero() {
    let (a, b) = (vec![1e-20; 4], vec![1e-19; 4 * 40]);
    for level in Level::available() {
        let mut c = vec![f32::NAN; 40];
        let packed = Packed::at(level, Precision::Bf16, &b, 4, 40);
        rows_times(&a, &packed, Epilogue::default(), &mut c);
        let expected = if bf16::is_native(level) { 0.0 } else { 4e-39 };
        assert!((c[0] - expected).abs() < 1e-40, "{level:?}: {:e}", c[0]);
    }
}
