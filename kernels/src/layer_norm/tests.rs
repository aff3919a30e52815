//! Against the definition, finite differences, thread counts, neighbours, and burn's composed ops.

use super::{Affine, Moments, backward, fused, reference};
use crate::testing::{assert_same_bits, on_any_threads, uniform, wide};

const EPS: f64 = 1e-5;
const SIZES: [(usize, usize); 9] =
    [(0, 4), (1, 1), (1, 257), (255, 3), (257, 17), (64, 16), (65, 1), (3, 384), (130, 255)];

fn run(
    x: &[f32],
    residual: Option<&[f32]>,
    gamma: &[f32],
    beta: &[f32],
) -> (Vec<f32>, Vec<Moments>) {
    let mut y = vec![f32::NAN; x.len()];
    let mut moments = vec![Moments::default(); x.len() / gamma.len()];
    fused(x, residual, Affine { gamma, beta, eps: EPS }, &mut y, &mut moments);
    (y, moments)
}

#[track_caller]
fn assert_close(expected: &[f64], found: &[f32], bound: f64, case: impl std::fmt::Debug) {
    assert_eq!(expected.len(), found.len(), "{case:?}");
    for (i, (x, y)) in expected.iter().zip(found).enumerate() {
        let error = (x - f64::from(*y)).abs() / (1.0 + x.abs());
        assert!(error < bound, "{case:?}: element {i} is {y}, expected {x}");
    }
}

#[test]
fn matches_reference_at_awkward_sizes() {
    for (n_rows, width) in SIZES {
        let (x, r) = (uniform(1, n_rows * width), uniform(2, n_rows * width));
        let (gamma, beta) = (uniform(3, width), uniform(4, width));
        let sum: Vec<f32> = x.iter().zip(&r).map(|(x, r)| x + r).collect();
        for (residual, whole) in [(None, &x), (Some(&r[..]), &sum)] {
            let expected = reference(&wide(whole), &wide(&gamma), &wide(&beta), EPS);
            let (found, _) = run(&x, residual, &gamma, &beta);
            assert_close(&expected, &found, 2e-6, (n_rows, width, residual.is_some()));
        }
    }
    fused(&[], None, Affine { gamma: &[], beta: &[], eps: EPS }, &mut [], &mut []);
    assert!(backward(&[], None, &[], &[], &[]).dx.is_empty());
}

#[test]
fn huge_tiny_and_constant_rows_are_right_and_nan_stays_in_its_row() {
    let (gamma, beta) = ([1.0, 2.0, 1.0, 1.0], [0.0, 0.5, 0.0, 0.0]);
    let rows = [
        [1e30, -1e30, 2e30, 0.0],
        [1e-30, -1e-30, 2e-30, 0.0],
        [7.0; 4],
        [1.0, f32::NAN, 2.0, 3.0],
        [1.0, f32::INFINITY, 2.0, 3.0],
        [1.0, 2.0, 3.0, 4.0],
    ];
    let x = rows.as_flattened();
    let (found, _) = run(x, None, &gamma, &beta);
    let expected = reference(&wide(x), &wide(&gamma), &wide(&beta), EPS);
    for finite in [0..12, 20..24] {
        assert_close(&expected[finite.clone()], &found[finite], 2e-6, "extremes");
    }
    assert_same_bits(&beta, &found[8..12], "a constant row is β");
    assert!(found[12..20].iter().all(|y| y.is_nan()), "NaN and infinity show");
}

#[test]
fn gradients_match_finite_differences() {
    let (n_rows, width) = (3, 5);
    let (x, r) = (uniform(1, n_rows * width), uniform(2, n_rows * width));
    let (gamma, beta, c) = (uniform(3, width), uniform(4, width), uniform(5, n_rows * width));
    let sum: Vec<f32> = x.iter().zip(&r).map(|(x, r)| x + r).collect();
    for (residual, whole) in [(None, &x), (Some(&r[..]), &sum)] {
        let (_, moments) = run(&x, residual, &gamma, &beta);
        let found = backward(&x, residual, &gamma, &moments, &c);
        let at = [wide(whole), wide(&gamma), wide(&beta)];
        for (which, gradient) in [&found.dx, &found.dgamma, &found.dbeta].into_iter().enumerate() {
            for (i, found) in gradient.iter().enumerate() {
                let moved = |by: f64| -> f64 {
                    let mut at = at.clone();
                    at[which][i] += by;
                    let y = reference(&at[0], &at[1], &at[2], EPS);
                    y.iter().zip(&c).map(|(y, c)| y * f64::from(*c)).sum()
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let error = (f64::from(*found) - expected).abs();
                assert!(error < 1e-5, "{which}[{i}]: {found}, not {expected}");
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads_or_neighbours() {
    let (n_rows, width) = (300, 37);
    let (x, r) = (uniform(1, n_rows * width), uniform(2, n_rows * width));
    let (gamma, beta) = (uniform(3, width), uniform(4, width));
    let bits = on_any_threads(|| {
        let (y, moments) = run(&x, Some(&r), &gamma, &beta);
        let found = backward(&x, Some(&r), &gamma, &moments, &y);
        let all = [y, found.dx, found.dgamma, found.dbeta].concat();
        all.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
    });
    let alone =
        run(&x[100 * width..101 * width], Some(&r[100 * width..101 * width]), &gamma, &beta);
    let alone: Vec<u32> = alone.0.iter().map(|x| x.to_bits()).collect();
    assert_eq!(bits[100 * width..101 * width], alone);
}

#[cfg(feature = "burn")]
mod burn_glue {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::EPS;
    use crate::testing::{elements, uniform};

    fn leaf<const D: usize>(seed: u32, shape: [usize; D], device: &Device) -> Tensor<D> {
        let elements = uniform(seed, shape.iter().product());
        Tensor::from_data(TensorData::new(elements, shape), device).require_grad()
    }

    fn composed(x: Tensor<3>, gamma: Tensor<1>, beta: Tensor<1>) -> Tensor<3> {
        let centred = x.clone() - x.mean_dim(2);
        let var = (centred.clone() * centred.clone()).mean_dim(2);
        centred / (var + EPS).sqrt() * gamma.unsqueeze() + beta.unsqueeze()
    }

    #[test]
    fn burn_runs_it_and_its_composed_ops_agree() {
        let device = Device::flex().autodiff();
        // Stored 7 × 5 × 6, read 5 × 7 × 6: not contiguous.
        let (x, r) = (leaf(1, [7, 5, 6], &device), leaf(2, [7, 5, 6], &device));
        let (gamma, beta) = (leaf(3, [6], &device), leaf(4, [6], &device));
        let c = leaf(5, [5, 7, 6], &device).detach();
        let run = |y: Tensor<3>, has_residual: bool| {
            let gradients = (y.clone() * c.clone()).sum().backward();
            let grad = |leaf: &Tensor<3>| elements(leaf.grad(&gradients).expect("reached"));
            let mut all = [elements(y.inner()), grad(&x)].concat();
            if has_residual {
                all.extend(grad(&r));
            }
            all.extend(elements(gamma.grad(&gradients).expect("dγ")));
            all.extend(elements(beta.grad(&gradients).expect("dβ")));
            all
        };
        // Made anew for each run: burn's graph is used up by its backward pass.
        let turned = || (x.clone().swap_dims(0, 1), r.clone().swap_dims(0, 1));
        let affine = || (gamma.clone(), beta.clone());
        let plain = |f: fn(Tensor<3>, Tensor<1>, Tensor<1>) -> Tensor<3>| {
            let (gamma, beta) = affine();
            run(f(turned().0, gamma, beta), false)
        };
        let ours = plain(|x, gamma, beta| super::super::layer_norm(x, gamma, beta, EPS));
        let theirs = plain(composed);
        let ((x_1, r_1), (gamma_1, beta_1)) = (turned(), affine());
        let both = run(super::super::residual_layer_norm(x_1, r_1, gamma_1, beta_1, EPS), true);
        let ((x_2, r_2), (gamma_2, beta_2)) = (turned(), affine());
        let both_theirs = run(composed(x_2 + r_2, gamma_2, beta_2), true);
        for (ours, theirs) in [(ours, theirs), (both, both_theirs)] {
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert!((ours - theirs).abs() < 1e-5, "{ours}, composed {theirs}");
            }
        }
    }
}
