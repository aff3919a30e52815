//! The same holdout, again and again: how many rows bear how many questions, and by how much a new score must be better.
//!
//! A holdout that answers H questions is a family of K hypotheses: K = H where nobody learns the answers in between (or only
//! "fail", until the first pass ends it), K = 2ᴴ where pass or fail is shown each time, because what is asked next may depend
//! on all that was shown ([`Transcripts`]). By Hoeffding one number between 0 and 1 is within ε with probability 1 − δ for
//! all K when n = ln(K/δ) / (2ε²); a difference of two is measured as two numbers, each within ε/2. Where the models are known
//! to disagree on at most a share p of the rows, which needs no labels, Bennett's inequality asks for far fewer.
//!
//! Sources: Renggli et al., "Continuous integration of machine learning models with ease.ml/ci", MLSys 2019 (sizes, K);
//! Bennett 1962; Blum and Hardt, "The ladder", ICML 2015 (parameter-free step).
//! Golden values: docs/design/009-gate-statistics.md.

use std::f64::consts::LN_2;

/// How many hypotheses a number of uses may end in, as a logarithm: 2ᴴ is large.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transcripts {
    ln: f64,
}

impl Transcripts {
    /// K = H: no answer is used to ask the next question, or the first pass ends it. `uses` must not be 0.
    #[must_use]
    pub fn fixed(uses: u32) -> Self {
        Self { ln: libm::log(f64::from(uses)) }
    }

    /// K = 2ᴴ: pass or fail is shown each time.
    #[must_use]
    pub fn adaptive(uses: u32) -> Self {
        Self { ln: f64::from(uses) * LN_2 }
    }

    /// Rows for one number between 0 and 1, each time within `epsilon`, all at once with probability 1 − `delta`.
    #[must_use]
    pub fn rows_for_value(self, epsilon: f64, delta: f64) -> f64 {
        (self.ln - libm::log(delta)) / (2.0 * epsilon * epsilon)
    }

    /// Rows for the difference of two such numbers: each within ε/2.
    #[must_use]
    pub fn rows_for_difference(self, epsilon: f64, delta: f64) -> f64 {
        Self { ln: self.ln + LN_2 }.rows_for_value(0.5 * epsilon, delta)
    }

    /// Rows for the difference of two accuracies of models that disagree on at most a share `disagreement` of the rows:
    /// n = ln(4K/δ) / (p h(ε/p)), h(u) = (1 + u) ln(1 + u) − u.
    #[must_use]
    pub fn rows_for_close_models(self, epsilon: f64, delta: f64, disagreement: f64) -> f64 {
        let u = epsilon / disagreement;
        let h = (1.0 + u) * libm::log1p(u) - u;
        (self.ln + 2.0 * LN_2 - libm::log(delta)) / (disagreement * h)
    }
}

/// The ladder's parameter-free step: s / √n of the paired differences in loss. A score that is better by less tells more about
/// these rows than about others.
#[must_use]
pub fn ladder_step(differences: &[f64]) -> f64 {
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let squares: f64 = differences.iter().map(|it| (it - mean) * (it - mean)).sum();
    libm::sqrt(squares / (n - 1.0) / n)
}

#[cfg(test)]
mod tests {
    use super::{Transcripts, ladder_step};
    use crate::testing::assert_close;

    /// Table 2 of the paper.
    #[test]
    fn sizes_are_those_of_the_paper() {
        let epsilons = [0.1, 0.05, 0.025, 0.01];
        let (none, full) = (Transcripts::fixed(32), Transcripts::adaptive(32));
        for (transcripts, delta, value, difference) in [
            (none, 0.01, [404, 1_615, 6_457, 40_355], [1_753, 7_012, 28_045, 175_282]),
            (full, 0.01, [1_340, 5_358, 21_429, 133_930], [5_496, 21_984, 87_933, 549_581]),
            (none, 0.0001, [634, 2_536, 10_141, 63_381], [2_674, 10_696, 42_782, 267_385]),
            (full, 0.0001, [1_570, 6_279, 25_113, 156_956], [6_417, 25_668, 102_670, 641_684]),
        ] {
            for (at, epsilon) in epsilons.into_iter().enumerate() {
                let found = transcripts.rows_for_value(epsilon, delta).ceil();
                assert_close(found, f64::from(value[at]), 1e-12);
                let found = transcripts.rows_for_difference(epsilon, delta).ceil();
                assert_close(found, f64::from(difference[at]), 1e-12);
            }
        }
    }

    #[test]
    fn models_that_seldom_disagree_need_fewer_rows() {
        for (transcripts, rows) in [
            (Transcripts::fixed(32), 29_047.296_270_710_813),
            (Transcripts::adaptive(32), 67_705.030_796_746_58),
        ] {
            assert_close(transcripts.rows_for_close_models(0.01, 1e-4, 0.1), rows, 1e-11);
        }
        // 2¹⁰⁰⁰⁰ does not fit a number, its logarithm does.
        assert!(Transcripts::adaptive(10_000).rows_for_value(0.01, 0.05).is_finite());
    }

    #[test]
    fn the_step_is_the_standard_error_of_the_mean_difference() {
        // s = √(10/3) of 1, 2, 4, 5 … by hand: mean 3, squares 4 1 1 4, s² = 10/3, s²/4 = 5/6.
        assert_close(ladder_step(&[1.0, 2.0, 4.0, 5.0]), libm::sqrt(5.0 / 6.0), 1e-14);
        assert!(ladder_step(&[1.0]).is_nan() && ladder_step(&[]).is_nan());
    }
}
