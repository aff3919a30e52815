//! Group norm against its definition, its derivative and burn.

use super::{Kept, Moments, Norm, backward, fused, reference};
use crate::{
    testing::{assert_same_bits, on_any_threads, uniform},
    window::Image,
};

const fn norm(height: usize, width: usize, n_channels: usize, n_groups: usize) -> Norm {
    Norm { image: Image { height, width, n_channels }, n_groups, relu: false }
}

const CASES: [(Norm, usize); 6] = [
    (norm(1, 1, 1, 1), 1),
    (norm(2, 3, 4, 2), 0),
    (norm(3, 5, 6, 2), 3),
    (norm(1, 1, 257, 1), 2),
    (norm(7, 5, 33, 33), 2),
    (norm(4, 4, 64, 4), 20),
];

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn forward(norm: &Norm, x: &[f32], gamma: &[f32], beta: &[f32]) -> (Vec<f32>, Vec<Moments>) {
    let mut y = vec![f32::NAN; x.len()];
    let mut moments = vec![[f32::NAN; 2]; norm.image.n_in(x) * norm.n_groups];
    fused(norm, x, gamma, beta, &mut y, &mut moments);
    (y, moments)
}

#[test]
fn matches_reference_at_awkward_sizes() {
    for (norm, n) in CASES {
        for relu in [false, true] {
            let norm = Norm { relu, ..norm };
            let x = uniform(1, n * norm.image.len());
            let (gamma, beta) =
                (uniform(2, norm.image.n_channels), uniform(3, norm.image.n_channels));
            let (y, _) = forward(&norm, &x, &gamma, &beta);
            let expected = reference(&norm, &wide(&x), &wide(&gamma), &wide(&beta));
            for (expected, y) in expected.iter().zip(&y) {
                assert!((expected - f64::from(*y)).abs() < 1e-5, "{norm:?}: {y}, {expected}");
            }
        }
    }
}

#[test]
fn huge_and_tiny_values_are_normalised_and_special_ones_stay_in_their_group() {
    let (norm, n) = CASES[2];
    let ones = vec![1.0; 6];
    let zeros = vec![0.0; 6];
    // A common factor and a common offset change nothing but the weight of ε.
    for (factor, offset) in [(1e30, 0.0), (1.0, 1e4), (1e19, 1e22)] {
        let x: Vec<f32> =
            uniform(1, n * norm.image.len()).iter().map(|x| x * factor + offset).collect();
        let (y, _) = forward(&norm, &x, &ones, &zeros);
        let expected = reference(&norm, &wide(&x), &wide(&ones), &wide(&zeros));
        for (expected, y) in expected.iter().zip(&y) {
            assert!((expected - f64::from(*y)).abs() < 2e-3, "{factor} {offset}: {y}, {expected}");
        }
    }
    let tiny: Vec<f32> = uniform(1, n * norm.image.len()).iter().map(|x| x * 1e-30).collect();
    assert!(forward(&norm, &tiny, &ones, &zeros).0.iter().all(|y| y.abs() < 1e-25));
    for special in [f32::NAN, f32::INFINITY] {
        let mut x = uniform(1, n * norm.image.len());
        x[0] = special;
        let (y, moments) = forward(&norm, &x, &ones, &zeros);
        let hit = |at: usize| at < norm.image.len() && at % 6 < 3;
        assert!(y.iter().enumerate().all(|(at, y)| y.is_nan() == hit(at)), "{special}");
        let kept = Kept { x: &x, y: None, moments: &moments };
        let dx = backward(&norm, kept, &ones, &uniform(4, x.len())).dx;
        assert!(dx.iter().enumerate().all(|(at, dx)| dx.is_nan() == hit(at)), "{special}");
    }
}

#[test]
fn gradients_match_finite_differences() {
    for (norm, n) in CASES.into_iter().filter(|(norm, _)| norm.image.len() < 300) {
        for relu in [false, true] {
            let norm = Norm { relu, ..norm };
            let x = uniform(1, n * norm.image.len());
            let (gamma, beta) =
                (uniform(2, norm.image.n_channels), uniform(3, norm.image.n_channels));
            let dy = uniform(4, x.len());
            let (y, moments) = forward(&norm, &x, &gamma, &beta);
            let kept = Kept { x: &x, y: relu.then_some(&y[..]), moments: &moments };
            let found = backward(&norm, kept, &gamma, &dy);
            let mut point = [wide(&x), wide(&gamma), wide(&beta)];
            let objective = |[x, gamma, beta]: &[Vec<f64>; 3]| -> f64 {
                let y = reference(&norm, x, gamma, beta);
                y.iter().zip(&dy).map(|(y, dy)| y * f64::from(*dy)).sum()
            };
            for (which, gradient) in
                [&found.dx, &found.dgamma, &found.dbeta].into_iter().enumerate()
            {
                for (at, found) in gradient.iter().enumerate().step_by(3) {
                    let before = point[which][at];
                    let mut moved = |by: f64| {
                        point[which][at] = before + by;
                        objective(&point)
                    };
                    let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    point[which][at] = before;
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < 1e-4, "{norm:?} {which}[{at}]: {found}, not {expected}");
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads_nor_on_neighbours() {
    let (norm, n) = CASES[5];
    let norm = Norm { relu: true, ..norm };
    let (x, dy) = (uniform(1, n * norm.image.len()), uniform(4, n * norm.image.len()));
    let (gamma, beta) = (uniform(2, 64), uniform(3, 64));
    let all = on_any_threads(|| {
        let (y, moments) = forward(&norm, &x, &gamma, &beta);
        let kept = Kept { x: &x, y: Some(&y), moments: &moments };
        let found = backward(&norm, kept, &gamma, &dy);
        [y, found.dx, found.dgamma, found.dbeta].concat()
    });
    let last = (n - 1) * norm.image.len();
    let (alone, _) = forward(&norm, &x[last..], &gamma, &beta);
    assert_same_bits(&all[last..][..norm.image.len()], &alone, norm);
}

#[cfg(feature = "burn")]
#[test]
fn burn_runs_it_and_its_composed_ops_agree() {
    use burn::tensor::activation::relu;

    use crate::testing::{flow, leaf};

    for (norm, n) in CASES.into_iter().filter(|(_, n)| 0 < *n) {
        let norm = Norm { relu: true, ..norm };
        let Image { height, width, n_channels } = norm.image;
        let leaves = || {
            let x = leaf(1, [n, n_channels, height, width]);
            (x, leaf(2, [1, 1, 1, n_channels]), leaf(3, [n_channels]))
        };
        let (x, gamma, beta) = leaves();
        let flat = gamma.clone().reshape([n_channels]);
        let ours = super::group_norm(x.clone().permute([0, 2, 3, 1]), flat, beta.clone(), norm);
        let ours = flow(ours, &x, &gamma, &beta);
        let (x, gamma, beta) = leaves();
        // A group of channels first in memory is one row.
        let rows = x.clone().reshape([n, norm.n_groups, norm.image.len() / norm.n_groups]);
        let centred = rows.clone() - rows.mean_dim(2);
        let var = (centred.clone() * centred.clone()).mean_dim(2);
        let normal = (centred / (var + super::EPS).sqrt()).reshape([n, n_channels, height, width]);
        let z = normal.permute([0, 2, 3, 1]) * gamma.clone()
            + beta.clone().reshape([1, 1, 1, n_channels]);
        let theirs = flow(relu(z), &x, &gamma, &beta);
        assert_eq!((ours.len(), theirs.len()), (4, 4), "y, dx, dγ and dβ");
        for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flatten()) {
            let allowed = 2e-5 * theirs.abs().max(1.0);
            assert!((ours - theirs).abs() < allowed, "{norm:?}: {ours}, {theirs}");
        }
    }
}
