//! `histogram`: how many negatives and positives have a score in each of k equal bins of \[0, 1\].
//!
//! From these counts follow the AUC, calibration (the share of positives in a bin beside its scores) and drift (the shares
//! of two histograms), without sorting and without bringing the scores to the host. Counts are integers: any order of
//! addition gives the same ones, on any device.
//!
//! bound by: bytes, 8 read a row.

use rayon::prelude::*;

/// Rows a thread counts at a time.
const CHUNK: usize = 1 << 14;

/// Rows of a bin: negatives, positives.
pub type Counts = [u32; 2];

/// The bin and class of a row, or nothing where the score is not in \[0, 1\] or the label is neither 0 nor 1.
#[inline(always)]
fn place(score: f32, label: f32, n_bins: usize) -> Option<(usize, usize)> {
    let is_score = (0.0..=1.0).contains(&score);
    let class = usize::from(0.5 < label);
    let is_label = label.to_bits() == (class as f32).to_bits();
    // A score of 1 belongs to the last bin.
    let bin = ((score * n_bins as f32) as usize).min(n_bins.saturating_sub(1));
    (is_score && is_label && 0 < n_bins).then_some((bin, class))
}

/// The definition: the number of rows for which [`place`] says so, bin by bin.
pub fn reference(scores: &[f32], labels: &[f32], n_bins: usize) -> Vec<Counts> {
    let rows = || scores.iter().zip(labels);
    let count = |bin, class| {
        rows().filter(|(s, y)| place(**s, **y, n_bins) == Some((bin, class))).count() as u32
    };
    (0..n_bins).map(|bin| [count(bin, 0), count(bin, 1)]).collect()
}

/// The counts. A row that has no place is not counted: the sum says how many there are.
#[must_use]
pub fn fused(scores: &[f32], labels: &[f32], n_bins: usize) -> Vec<Counts> {
    let chunk = |(scores, labels): (&[f32], &[f32])| {
        let mut counts = vec![Counts::default(); n_bins];
        for (score, label) in scores.iter().zip(labels) {
            if let Some((bin, class)) = place(*score, *label, n_bins) {
                counts[bin][class] += 1;
            }
        }
        counts
    };
    let add = |mut a: Vec<Counts>, b: Vec<Counts>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = [a[0] + b[0], a[1] + b[1]]);
        a
    };
    let chunks = scores.par_chunks(CHUNK).zip(labels.par_chunks(CHUNK));
    chunks.map(chunk).reduce(|| vec![Counts::default(); n_bins], add)
}

/// The share of pairs of one positive and one negative in which the positive's bin is higher; the same bin counts half. It
/// is at most half the share of pairs within one bin away from the exact AUC. Nothing where a class has no row.
#[must_use]
pub fn auc(counts: &[Counts]) -> Option<f64> {
    let (mut n_below, mut twice) = (0_u64, 0_u128);
    for [negatives, positives] in counts.iter().map(|it| it.map(u64::from)) {
        twice += u128::from(positives) * u128::from(2 * n_below + negatives);
        n_below += negatives;
    }
    let n_positives: u64 = counts.iter().map(|it| u64::from(it[1])).sum();
    let n_pairs = u128::from(n_below) * u128::from(n_positives);
    (0 < n_pairs).then(|| twice as f64 / (2.0 * n_pairs as f64))
}

#[cfg(feature = "burn")]
pub use op::histogram;

#[cfg(feature = "burn")]
pub(crate) mod op {
    use burn::{
        backend::{
            Backend, Dispatch, Flex, backend_extension,
            tensor::{FloatTensor, IntTensor},
        },
        tensor::{Int, Tensor, TensorData},
    };
    use burn_flex::FlexTensor;

    use crate::flex::{contiguous, floats};

    /// Bins × (negatives, positives), I32, where the scores are.
    #[must_use]
    pub fn histogram(scores: Tensor<1>, labels: Tensor<1>, n_bins: usize) -> Tensor<2, Int> {
        let (scores, labels) = (scores.into_dispatch(), labels.into_dispatch());
        Tensor::from_dispatch(<Dispatch as HistogramOps>::histogram(scores, labels, n_bins))
    }

    /// The counting.
    #[backend_extension(Flex, Cube: cfg(feature = "gpu"))]
    pub(crate) trait HistogramOps: Backend {
        /// See [`super::fused`].
        fn histogram(
            scores: FloatTensor<Self>,
            labels: FloatTensor<Self>,
            n_bins: usize,
        ) -> IntTensor<Self>;
    }

    impl HistogramOps for Flex {
        fn histogram(
            scores: FloatTensor<Self>,
            labels: FloatTensor<Self>,
            n_bins: usize,
        ) -> IntTensor<Self> {
            let (scores, labels) = (contiguous(scores), contiguous(labels));
            let counts = super::fused(floats(&scores), floats(&labels), n_bins);
            // A tensor has less than 2³¹ rows.
            let counts: Vec<i32> = counts.as_flattened().iter().map(|n| *n as i32).collect();
            FlexTensor::from_data(TensorData::new(counts, [n_bins, 2]))
        }
    }
}

#[cfg(feature = "gpu")]
pub(crate) mod gpu;

#[cfg(test)]
mod tests {
    use super::{auc, fused, reference};
    use crate::testing::{on_any_threads, uniform};

    /// Scores that tell the classes apart a little.
    fn rows(n: usize) -> (Vec<f32>, Vec<f32>) {
        let labels: Vec<f32> =
            uniform(1, n).iter().map(|x| f32::from(u8::from(0.4 < *x))).collect();
        let score = |(x, y): (&f32, &f32)| (0.5 + 0.35 * x + 0.3 * (y - 0.5)).clamp(0.0, 1.0);
        (uniform(2, n).iter().zip(&labels).map(score).collect(), labels)
    }

    #[test]
    fn matches_reference_at_awkward_sizes() {
        for (n, n_bins) in [(0, 4), (1, 1), (255, 7), (257, 100), (1000, 3), (5, 0)] {
            let (scores, labels) = rows(n);
            assert_eq!(reference(&scores, &labels, n_bins), fused(&scores, &labels, n_bins));
        }
    }

    #[test]
    fn edges_have_a_bin_and_what_is_no_score_or_label_has_none() {
        let nan = f32::NAN;
        let scores = [0.0, 1.0, 0.5, nan, -0.1, 1.1, f32::INFINITY, 0.1, 0.1];
        let labels = [0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, nan, 2.0];
        assert_eq!(fused(&scores, &labels, 2), [[1, 0], [0, 2]]);
    }

    #[test]
    fn auc_is_as_near_to_the_exact_one_as_it_says() {
        let (scores, labels) = rows(3000);
        let mut exact = (0.0, 0.0);
        for (s, _) in scores.iter().zip(&labels).filter(|(_, y)| 0.5 < **y) {
            for (t, _) in scores.iter().zip(&labels).filter(|(_, y)| **y < 0.5) {
                exact.0 += if t < s { 1.0 } else { f64::from(u8::from(s <= t && t <= s)) / 2.0 };
                exact.1 += 1.0;
            }
        }
        let exact = exact.0 / exact.1;
        assert!(0.6 < exact && exact < 0.9, "{exact}");
        for n_bins in [2, 10, 100, 10_000] {
            let counts = fused(&scores, &labels, n_bins);
            let total = |class: usize| counts.iter().map(|it| f64::from(it[class])).sum::<f64>();
            let within: f64 = counts.iter().map(|it| f64::from(it[0]) * f64::from(it[1])).sum();
            let bound = within / (2.0 * total(0) * total(1));
            let found = auc(&counts).expect("both classes");
            assert!(
                (found - exact).abs() <= bound + 1e-12,
                "{n_bins} bins: {found}, exact {exact}"
            );
        }
        assert!(auc(&fused(&scores, &[1.0; 3000], 10)).is_none(), "one class has no AUC");
    }

    #[test]
    fn counts_do_not_depend_on_threads() {
        let (scores, labels) = rows(100_000);
        let counts = on_any_threads(|| fused(&scores, &labels, 64));
        assert_eq!(counts.as_flattened().iter().sum::<u32>(), 100_000);
    }

    #[cfg(feature = "burn")]
    #[test]
    fn burn_runs_it() {
        use burn::tensor::{Device, Tensor};

        let (scores, labels) = rows(500);
        let device = Device::flex();
        let column = |x: &[f32]| Tensor::<1>::from_data(x, &device);
        let found = super::histogram(column(&scores), column(&labels), 9).try_into_data();
        let found: Vec<u32> = found.expect("a CPU answers").iter::<u32>().collect();
        assert_eq!(found, fused(&scores, &labels, 9).as_flattened());
    }
}
