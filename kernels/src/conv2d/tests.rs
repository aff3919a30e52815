//! Convolution against its definition, its formulas backward, its derivative and burn.

use super::{
    Conv, Gradients,
    backward::{self, backward, n_chunks},
    fused, places, reference, taps,
};
use crate::{
    matmul::Level,
    testing::{assert_same_bits, on_any_threads, uniform},
    window::{Image, Window},
};

/// A convolution, pictures.
pub(crate) fn cases() -> Vec<(Conv, usize)> {
    let case = |(height, width, n_channels), n_outputs, (size, stride, padding), n| {
        let input = Image { height, width, n_channels };
        (Conv { input, n_outputs, window: Window { size, stride, padding } }, n)
    };
    vec![
        case((1, 1, 1), 1, (1, 1, 0), 1),
        case((5, 4, 3), 2, (3, 1, 1), 0),
        case((5, 4, 3), 2, (3, 1, 1), 1),
        case((5, 4, 3), 33, (3, 1, 1), 3),
        case((7, 5, 2), 5, (3, 2, 1), 5),
        case((6, 6, 4), 3, (1, 2, 0), 2),
        case((9, 8, 1), 7, (5, 3, 2), 3),
        case((8, 9, 3), 4, (2, 2, 0), 2),
        // A stride that leaves taps and pixels out.
        case((8, 7, 2), 3, (2, 3, 0), 2),
        // More padding than the window needs, and a window larger than the picture.
        case((3, 3, 2), 3, (3, 1, 3), 2),
        case((2, 2, 1), 2, (4, 1, 1), 2),
        case((2, 3, 1), 2, (5, 1, 0), 2),
        // More pictures than chunks, and groups of many pictures.
        case((3, 3, 2), 3, (3, 1, 1), 150),
        case((14, 14, 5), 40, (3, 1, 1), 9),
    ]
}

struct Numbers {
    x: Vec<f32>,
    w: Vec<f32>,
    b: Vec<f32>,
    dy: Vec<f32>,
}

fn numbers(conv: &Conv, n: usize) -> Numbers {
    Numbers {
        x: uniform(1, n * conv.input.len()),
        w: uniform(2, conv.n_taps() * conv.n_outputs),
        b: uniform(3, conv.n_outputs),
        dy: uniform(4, n * conv.output().len()),
    }
}

/// Where tap (i, j) at place (row, column) looks, if inside the picture.
fn seen(conv: &Conv, (row, column): (usize, usize), (i, j): (usize, usize)) -> Option<usize> {
    let Conv { input, window, .. } = *conv;
    let row = (row * window.stride + i).checked_sub(window.padding).filter(|it| *it < input.height);
    let column =
        (column * window.stride + j).checked_sub(window.padding).filter(|it| *it < input.width);
    Some(row? * input.row_len() + column? * input.n_channels)
}

/// Backward by its formulas, each number one chain in the promised order. `dz` is dy after the ReLU.
fn naive_backward(conv: &Conv, x: &[f32], w: &[f32], dz: &[f32]) -> Gradients {
    let (input, output, n_outputs) = (conv.input, conv.output(), conv.n_outputs);
    let n = conv.input.n_in(x);
    let all_taps: Vec<_> = taps(conv.window.size, input.n_channels).enumerate().collect();
    let mut dx = vec![0.0_f32; x.len()];
    for picture in 0..n {
        for (tap, (i, j, k)) in all_taps.iter().rev() {
            for (place, at) in places(output).enumerate() {
                let Some(pixel) = seen(conv, at, (*i, *j)) else { continue };
                let dx = &mut dx[picture * input.len() + pixel + k];
                for o in 0..n_outputs {
                    let dz = dz[picture * output.len() + place * n_outputs + o];
                    *dx = dz.mul_add(w[tap * n_outputs + o], *dx);
                }
            }
        }
    }
    let chunk = n.div_ceil(n_chunks(conv, n)).max(1);
    let (mut dw, mut db) = (vec![0.0_f32; w.len()], vec![0.0_f32; n_outputs]);
    for first in (0..n).step_by(chunk) {
        let (mut dw_part, mut db_part) = (vec![0.0_f32; w.len()], vec![0.0_f32; n_outputs]);
        for picture in first..(first + chunk).min(n) {
            for (place, at) in places(output).enumerate() {
                for o in 0..n_outputs {
                    let dz = dz[picture * output.len() + place * n_outputs + o];
                    db_part[o] += dz;
                    for (tap, (i, j, k)) in &all_taps {
                        let x = seen(conv, at, (*i, *j))
                            .map_or(0.0, |pixel| x[picture * input.len() + pixel + k]);
                        let dw = &mut dw_part[tap * n_outputs + o];
                        *dw = x.mul_add(dz, *dw);
                    }
                }
            }
        }
        dw.iter_mut().zip(&dw_part).for_each(|(sum, x)| *sum += x);
        db.iter_mut().zip(&db_part).for_each(|(sum, x)| *sum += x);
    }
    Gradients { dx: Some(dx), dw, db }
}

fn cut(y: &[f32], dy: &[f32]) -> Vec<f32> {
    y.iter().zip(dy).map(|(y, dy)| if *y <= 0.0 { 0.0 } else { *dy }).collect()
}

#[test]
fn matches_reference_bit_for_bit_at_awkward_sizes() {
    for (conv, n) in cases() {
        let Numbers { x, w, b, .. } = numbers(&conv, n);
        for relu in [false, true] {
            let expected = reference(&conv, &x, &w, &b, relu);
            let mut y = vec![f32::NAN; expected.len()];
            fused(&conv, &x, &w, &b, relu, &mut y);
            assert_same_bits(&expected, &y, (conv, n, relu));
        }
    }
}

#[test]
fn backward_is_its_formula_bit_for_bit_on_every_level() {
    for (conv, n) in cases() {
        let Numbers { x, w, b, dy } = numbers(&conv, n);
        let y = reference(&conv, &x, &w, &b, true);
        let expected = naive_backward(&conv, &x, &w, &cut(&y, &dy));
        for level in Level::available() {
            let dz = backward::Cut { image: conv.output(), y: Some(&y), dy: &dy };
            let found = backward::at(level, &conv, &x, &w, &dz, true);
            let case = (level, conv, n);
            assert_same_bits(
                expected.dx.as_deref().expect("asked for"),
                &found.dx.expect("too"),
                case,
            );
            assert_same_bits(&expected.dw, &found.dw, case);
            assert_same_bits(&expected.db, &found.db, case);
        }
        assert!(backward(&conv, &x, &w, None, &dy, false).dx.is_none());
    }
}

#[test]
fn gradients_match_finite_differences() {
    let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    for (conv, n) in cases().into_iter().filter(|(conv, n)| *n < 6 && conv.n_outputs < 10) {
        let Numbers { x, w, b, dy } = numbers(&conv, n);
        for relu in [false, true] {
            // In f64: the sum of y · dy.
            let objective = |[x, w, b]: &[Vec<f64>; 3]| -> f64 {
                let output = conv.output();
                let each = (0..n).flat_map(|picture| places(output).map(move |at| (picture, at)));
                let pixels = each.enumerate().map(|(place, (picture, at))| {
                    let one = |o: usize| {
                        let products = taps(conv.window.size, conv.input.n_channels).enumerate();
                        let z = products
                            .filter_map(|(tap, (i, j, k))| {
                                let pixel =
                                    picture * conv.input.len() + seen(&conv, at, (i, j))? + k;
                                Some(x[pixel] * w[tap * conv.n_outputs + o])
                            })
                            .sum::<f64>()
                            + b[o];
                        f64::from(dy[place * conv.n_outputs + o])
                            * if relu { z.max(0.0) } else { z }
                    };
                    (0..conv.n_outputs).map(one).sum::<f64>()
                });
                pixels.sum()
            };
            let y = relu.then(|| reference(&conv, &x, &w, &b, relu));
            let found = backward(&conv, &x, &w, y.as_deref(), &dy, true);
            let dx = found.dx.expect("asked for");
            let mut point = [wide(&x), wide(&w), wide(&b)];
            for (which, gradient) in [&dx, &found.dw, &found.db].into_iter().enumerate() {
                // Every 7th is enough of the many.
                for (at, found) in
                    gradient.iter().enumerate().step_by(if which == 2 { 1 } else { 7 })
                {
                    let before = point[which][at];
                    let mut moved = |by: f64| {
                        point[which][at] = before + by;
                        objective(&point)
                    };
                    let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    point[which][at] = before;
                    let error = (f64::from(*found) - expected).abs();
                    assert!(
                        error < 1e-4,
                        "{conv:?} relu {relu}, {which}[{at}]: {found}, not {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn special_values_stay_visible_and_huge_and_tiny_ones_are_exact() {
    let (conv, n) = cases()[3];
    let Numbers { mut x, w, b, .. } = numbers(&conv, n);
    for (at, special) in [f32::NAN, f32::INFINITY, 1e38, -1e38, 1e-42, -0.0].into_iter().enumerate()
    {
        x[9 * at] = special;
    }
    let expected = reference(&conv, &x, &w, &b, true);
    let mut y = vec![0.0; expected.len()];
    fused(&conv, &x, &w, &b, true, &mut y);
    for (x, y) in expected.iter().zip(&y) {
        assert!(x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()), "{y}, expected {x}");
    }
    assert!(y.iter().any(|y| y.is_nan()) && y.iter().any(|y| y.is_finite()));
    // dy where y is NaN is not hidden by the cut.
    let found = backward(&conv, &x, &w, Some(&y), &vec![1.0; y.len()], true);
    assert!(found.dw.iter().any(|it| it.is_nan()));
}

#[test]
fn bits_do_not_depend_on_threads() {
    let (conv, _) = cases()[13];
    let Numbers { x, w, b, dy } = numbers(&conv, 40);
    on_any_threads(|| {
        let mut y = vec![0.0; dy.len()];
        fused(&conv, &x, &w, &b, true, &mut y);
        let found = backward(&conv, &x, &w, Some(&y), &dy, true);
        [y, found.dx.expect("asked for"), found.dw, found.db].concat()
    });
}

#[test]
fn a_picture_does_not_depend_on_its_neighbours() {
    for (conv, n) in cases().into_iter().filter(|(_, n)| 1 < *n) {
        let Numbers { x, w, b, dy } = numbers(&conv, n);
        let (input, output) = (conv.input.len(), conv.output().len());
        let mut y = vec![0.0; dy.len()];
        fused(&conv, &x, &w, &b, false, &mut y);
        let dx = backward(&conv, &x, &w, None, &dy, true).dx.expect("asked for");
        let last = n - 1;
        let mut alone = vec![0.0; output];
        fused(&conv, &x[last * input..], &w, &b, false, &mut alone);
        assert_same_bits(&y[last * output..], &alone, conv);
        let alone = backward(&conv, &x[last * input..], &w, None, &dy[last * output..], true);
        assert_same_bits(&dx[last * input..], &alone.dx.expect("asked for"), conv);
    }
}

/// burn's own convolution, from and to our order of dimensions.
#[cfg(feature = "burn")]
pub(crate) fn composed(
    conv: &Conv,
    x: burn::tensor::Tensor<4>,
    w: burn::tensor::Tensor<4>,
    b: burn::tensor::Tensor<1>,
) -> burn::tensor::Tensor<4> {
    use burn::tensor::{module::conv2d, ops::ConvOptions};

    let Window { stride, padding, .. } = conv.window;
    let options = ConvOptions::new([stride; 2], [padding; 2], [1, 1], 1);
    let y = conv2d(x.permute([0, 3, 1, 2]), w.permute([3, 2, 0, 1]), Some(b), options);
    y.permute([0, 2, 3, 1])
}

#[cfg(feature = "burn")]
#[test]
fn burn_runs_it_and_its_own_convolution_agrees() {
    use crate::testing::{flow, leaf};

    for (conv, n) in cases() {
        if n == 0 || conv.output().is_empty() {
            continue;
        }
        let (input, size) = (conv.input, conv.window.size);
        for relu in [false, true] {
            let leaves = || {
                // Channels first in memory: what arrives is not contiguous.
                let x = leaf(1, [n, input.n_channels, input.height, input.width]);
                let w = leaf(2, [size, size, input.n_channels, conv.n_outputs]);
                (x, w, leaf(3, [conv.n_outputs]))
            };
            let (x, w, b) = leaves();
            let ours =
                super::conv2d(x.clone().permute([0, 2, 3, 1]), w.clone(), b.clone(), conv, relu);
            let ours = flow(ours, &x, &w, &b);
            let (x, w, b) = leaves();
            let theirs = composed(&conv, x.clone().permute([0, 2, 3, 1]), w.clone(), b.clone());
            let theirs = if relu { burn::tensor::activation::relu(theirs) } else { theirs };
            let theirs = flow(theirs, &x, &w, &b);
            assert_eq!((ours.len(), theirs.len()), (4, 4), "y, dx, dw and db");
            for (which, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                assert_eq!(ours.len(), theirs.len());
                // Sums of up to 1,764 products that cancel: as exact as the largest of them.
                let allowed = 1e-5 * theirs.iter().fold(1.0, |most: f32, it| most.max(it.abs()));
                for (ours, theirs) in ours.iter().zip(theirs) {
                    assert!((ours - theirs).abs() < allowed, "{conv:?} {which}: {ours}, {theirs}");
                }
            }
        }
    }
}
