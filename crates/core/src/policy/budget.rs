//! How often a holdout may be used, what each use may show, and what that does to the reliability of one verdict.
//!
//! Source: ease.ml/ci (Renggli et al., MLSys 2019), which asks for K transcripts: K = H when the answers cannot steer what
//! is tried next, or only until the first pass; K = 2^H when each answer can. Each verdict then gets α/K.

use serde::{Deserialize, Serialize};

/// Most uses a budget may grant.
pub const USES_MAX: u32 = 1_000;
/// Most uses that may all steer the next one: α/2^H is then 10⁻¹⁰ of α.
pub const USES_MAX_FULL: u32 = 32;

/// How often the rows of a gate may be judged before only fresh rows can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Verdicts shown on the same rows, this gate's and others': H.
    pub uses: u32,
    /// What an answer may change about the next question.
    pub adaptivity: Adaptivity,
    /// What is shown.
    pub reveal: Reveal,
}

/// What the answer to one use may change about the next candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adaptivity {
    /// Nothing: answers are looked at when all uses are spent.
    None,
    /// Only "fail" is seen until the first pass; then the rows are retired.
    #[default]
    FirstChange,
    /// Every answer is seen, and the rows stay in use.
    Full,
}

/// What a use shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reveal {
    /// The outcome of each rule and nothing else: the only form in which reuse is bounded.
    Verdict,
    /// Every number. Uses are counted, and reuse is not bounded.
    #[default]
    Numbers,
}

impl Budget {
    /// The reliability that one verdict is computed at, so that all of them together keep `asked`: 1 − α/K, with
    /// K = H, or 2^H where every answer steers the next question. With numbers shown no K helps: it stays `asked`.
    #[must_use]
    pub fn reliability(&self, asked: f64) -> f64 {
        let n_transcripts = match (self.reveal, self.adaptivity) {
            (Reveal::Numbers, _) => return asked,
            (Reveal::Verdict, Adaptivity::Full) => {
                (0..self.uses.min(USES_MAX_FULL)).fold(1.0, |k, _| k * 2.0)
            }
            (Reveal::Verdict, _) => f64::from(self.uses.max(1)),
        };
        1.0 - (1.0 - asked) / n_transcripts
    }
}

#[cfg(test)]
mod tests {
    use super::{Adaptivity, Budget, Reveal};

    #[test]
    fn one_verdict_pays_for_all_transcripts_and_shown_numbers_buy_nothing() {
        let at = |reveal, adaptivity| Budget { uses: 8, adaptivity, reveal }.reliability(0.95);
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-12;
        assert!(close(at(Reveal::Verdict, Adaptivity::FirstChange), 1.0 - 0.05 / 8.0));
        assert!(close(at(Reveal::Verdict, Adaptivity::None), 1.0 - 0.05 / 8.0));
        assert!(close(at(Reveal::Verdict, Adaptivity::Full), 1.0 - 0.05 / 256.0));
        for adaptivity in [Adaptivity::None, Adaptivity::FirstChange, Adaptivity::Full] {
            assert!(close(at(Reveal::Numbers, adaptivity), 0.95));
        }
    }
}
