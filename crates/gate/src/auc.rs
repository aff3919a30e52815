//! AUC of one model and of two on the same rows: DeLong, DeLong, Clarke-Pearson 1988, by midranks in O(n log n)
//! (Sun and Xu 2014); planning one AUC by Hanley and McNeil 1982.

use crate::{
    estimate::Tail,
    metric::{
        NotMeasured, Scores,
        rank::{Placements, Ranked},
    },
    normal::two_sided,
};

/// One model's AUC with its variance.
#[derive(Clone, Debug)]
pub struct DeLong {
    /// Placements by row; their mean is the AUC.
    placements: Placements,
    is_positive: Vec<bool>,
}

impl DeLong {
    /// Needs two rows of each class: a variance of one number is not defined.
    pub fn new(scores: &Scores<'_>) -> Result<Self, NotMeasured> {
        let placements = Ranked::of_both_classes(scores)?.placements();
        for (n, class) in [(placements.n_positive, "positive"), (placements.n_negative, "negative")]
        {
            if n < 2 {
                return Err(NotMeasured::new(format!("only {n} row is {class}, DeLong needs 2")));
            }
        }
        Ok(Self { placements, is_positive: scores.label.iter().map(|it| 0.5 <= *it).collect() })
    }

    /// The AUC.
    #[must_use]
    pub fn auc(&self) -> f64 {
        self.placements.auc
    }

    /// S = S₁₀ / m + S₀₁ / n of this and another model on the same rows; of itself: the variance.
    #[must_use]
    pub fn covariance(&self, other: &Self) -> f64 {
        let (mut positives, mut negatives) = (0.0, 0.0);
        let (a, b) = (self.auc(), other.auc());
        let shares = self.placements.share.iter().zip(&other.placements.share);
        for ((x, y), is_positive) in shares.zip(&self.is_positive) {
            let product = (x - a) * (y - b);
            if *is_positive {
                positives += product;
            } else {
                negatives += product;
            }
        }
        let (m, n) = (self.placements.n_positive as f64, self.placements.n_negative as f64);
        positives / ((m - 1.0) * m) + negatives / ((n - 1.0) * n)
    }

    /// Interval on the logit, `z` on each side. Where no pair is out of order (or every one is) the variance is 0 and
    /// says nothing; then the rule of three on the smaller class, with the side's own α.
    #[must_use]
    pub fn interval(&self, z: f64) -> [f64; 2] {
        match self.tail() {
            Tail::Logit { value, standard_error } => {
                let logit = libm::log(value / (1.0 - value));
                let half = z * standard_error;
                [logit - half, logit + half].map(|it| 1.0 / (1.0 + libm::exp(-it)))
            }
            _ => {
                let alpha = 0.5 * libm::erfc(z / std::f64::consts::SQRT_2);
                let loss = 1.0 - libm::pow(alpha, 1.0 / self.few());
                if self.auc() < 0.5 { [0.0, loss] } else { [1.0 - loss, 1.0] }
            }
        }
    }

    /// What it says about any bound.
    #[must_use]
    pub fn tail(&self) -> Tail {
        let a = self.auc();
        if a <= 0.0 || 1.0 <= a {
            return Tail::RuleOfThree { value: a, few: self.few() };
        }
        let standard_error = libm::sqrt(self.covariance(self)) / (a * (1.0 - a));
        Tail::Logit { value: a, standard_error }
    }

    /// Rows of the smaller class.
    fn few(&self) -> f64 {
        self.placements.n_positive.min(self.placements.n_negative) as f64
    }

    /// This model against another on the same rows.
    #[must_use]
    pub fn against(&self, other: &Self) -> AucDifference {
        let variance =
            self.covariance(self) + other.covariance(other) - 2.0 * self.covariance(other);
        let difference = self.auc() - other.auc();
        let standard_error = libm::sqrt(variance.max(0.0));
        // Scores in the same order: the difference is rounding, and so is its error.
        let same = difference.abs() <= 1e-14 && standard_error <= 1e-10;
        let z = if same { 0.0 } else { difference / standard_error };
        AucDifference { difference, standard_error, z, p: two_sided(z) }
    }
}

/// AUC₁ − AUC₂ with its error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AucDifference {
    /// The difference.
    pub difference: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Their quotient; 0 for equal rankings.
    pub z: f64,
    /// Two-sided.
    pub p: f64,
}

/// Standard error that one AUC of `auc` will have on m positives and n negatives: for planning.
#[must_use]
pub fn hanley_mcneil(auc: f64, n_positive: f64, n_negative: f64) -> f64 {
    let (q1, q2) = (auc / (2.0 - auc), 2.0 * auc * auc / (1.0 + auc));
    let variance = auc * (1.0 - auc)
        + (n_positive - 1.0) * (q1 - auc * auc)
        + (n_negative - 1.0) * (q2 - auc * auc);
    libm::sqrt(variance / (n_positive * n_negative))
}

#[cfg(test)]
mod tests {
    use karat_core::Task;

    use super::{DeLong, hanley_mcneil};
    use crate::{
        metric::Scores,
        normal::{quantile, two_sided},
        testing::{assert_close, scored},
    };

    const Y: [f32; 12] = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    const A: [f32; 12] = [0.9, 0.8, 0.7, 0.55, 0.4, 0.6, 0.5, 0.45, 0.3, 0.3, 0.2, 0.1];
    const B: [f32; 12] = [0.85, 0.6, 0.65, 0.3, 0.5, 0.7, 0.55, 0.4, 0.35, 0.25, 0.3, 0.15];

    fn of(label: &[f32], score: &[f32]) -> DeLong {
        DeLong::new(&Scores { task: Task::Binary, n_classes: 2, label, score })
            .expect("two classes")
    }

    #[test]
    fn delong_gives_the_reference_values() {
        let (a, b) = (of(&Y, &A), of(&Y, &B));
        assert_close(a.auc(), 0.885_714_285_714_285_7, 1e-14);
        assert_close(b.auc(), 0.757_142_857_142_857_1, 1e-14);
        assert_close(a.covariance(&a), 0.010_476_190_476_2, 1e-11);
        assert_close(b.covariance(&b), 0.023_401_360_544_2, 1e-11);
        assert_close(a.covariance(&b), 0.009_625_850_340_14, 1e-11);
        let found = a.against(&b);
        assert_close(found.z, 1.063_123_961_79, 1e-11);
        assert_close(found.p, 0.287_725_739_258, 1e-11);
        let swapped = b.against(&a);
        assert_close(swapped.z, -found.z, 1e-12);
        assert_close(swapped.p, found.p, 1e-12);
        let same = a.against(&a);
        assert!(same.z.abs() < 1e-15 && same.p.to_bits() == 1.0_f64.to_bits());
    }

    /// The O(m n) definition.
    #[test]
    fn placements_agree_with_counting_pairs() {
        let (label, score) = scored("placements", 300, 0.3, 0.7);
        let score: Vec<f32> = score.iter().map(|it| (it * 20.0).round() / 20.0).collect();
        let mut wins = 0.0;
        let mut pairs = 0.0;
        for (x, _) in score.iter().zip(&label).filter(|(_, y)| 0.5 < **y) {
            for (y, _) in score.iter().zip(&label).filter(|(_, y)| **y < 0.5) {
                wins += if y < x {
                    1.0
                } else if x < y {
                    0.0
                } else {
                    0.5
                };
                pairs += 1.0;
            }
        }
        assert_close(of(&label, &score).auc(), wins / pairs, 1e-13);
    }

    #[test]
    fn intervals_stay_inside_and_perfect_order_is_not_certainty() {
        let perfect = of(&[0.0, 0.0, 1.0, 1.0], &[0.1, 0.2, 0.8, 0.9]);
        let [low, high] = perfect.interval(1.645);
        assert!(0.2 < low && low < 0.25 && (high - 1.0).abs() < 1e-15, "{low} {high}");
        let [low, high] = of(&Y, &A).interval(1.96);
        assert!(0.5 < low && low < 0.8857 && 0.8857 < high && high < 1.0, "{low} {high}");
        let constant = of(&Y, &[0.3; 12]);
        assert_close(constant.auc(), 0.5, 1e-15);
    }

    /// What R's pROC prints for its aSAH data, wfns against s100b: interval, Z and P belong together.
    #[test]
    fn published_numbers_of_proc_belong_together() {
        let (low, high) = (0.010_406_176_956_484_6, 0.174_214_419_249_478);
        let half = 0.5 * (high - low);
        let z = (low + half) / (half / quantile(0.975));
        assert_close(z, 2.208_983_591_440_91, 1e-12);
        assert_close(two_sided(z), 0.027_175_782_229_188_2, 1e-12);
    }

    #[test]
    fn planning_gives_hanley_and_mcneils_error() {
        assert_close(hanley_mcneil(0.85, 100.0, 900.0), 0.024_594_1, 2e-6);
    }
}
