//! Metrics of the order of scores: AUC and average precision. Ties count half (AUC) or share a threshold (AP).

use super::{NotMeasured, Scores, Statistic, Weights};

/// Binary rows by ascending score; among equal scores the negatives first.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Row at each rank; empty when the rows already are in this order.
    order: Vec<u32>,
    n_rows: usize,
    /// 255 at the ranks of positives, 0 elsewhere: a mask for the counts.
    positive: Vec<u8>,
    /// Rank after the last of each run of equal scores.
    ends: Vec<u32>,
    /// Score of each run.
    scores: Vec<f64>,
    /// Runs that hold both classes: (first rank, rank of the first positive, rank after the last).
    mixed: Vec<(u32, u32, u32)>,
}

impl Ranked {
    /// Of any binary rows.
    #[must_use]
    pub fn new(scores: &Scores<'_>) -> Self {
        let n_rows = scores.label.len();
        // + 0.0 makes one zero of two.
        let score_of = |row: &u32| scores.score[*row as usize] + 0.0;
        let is_positive = |row: &u32| 0.5 <= scores.label[*row as usize];
        let mut order: Vec<u32> = (0..n_rows as u32).collect();
        // Rows that are alike in both are interchangeable, but equal bits need one order: by number.
        order.sort_by(|a, b| {
            score_of(a).total_cmp(&score_of(b)).then(is_positive(a).cmp(&is_positive(b)))
        });
        let positive = order.iter().map(|it| if is_positive(it) { 255 } else { 0 }).collect();
        let (mut ends, mut values, mut mixed) = (Vec::new(), Vec::new(), Vec::new());
        let mut from = 0;
        for run in order.chunk_by(|a, b| score_of(a).to_bits() == score_of(b).to_bits()) {
            let to = from + run.len();
            let first_positive = from + run.iter().take_while(|it| !is_positive(it)).count();
            if from < first_positive && first_positive < to {
                mixed.push((from as u32, first_positive as u32, to as u32));
            }
            ends.push(to as u32);
            values.push(f64::from(score_of(&run[0])));
            from = to;
        }
        if order.iter().enumerate().all(|(rank, row)| rank == *row as usize) {
            order = Vec::new();
        }
        Self { order, n_rows, positive, ends, scores: values, mixed }
    }

    pub(crate) fn of_both_classes(scores: &Scores<'_>) -> Result<Self, NotMeasured> {
        let n = scores.label.len();
        let n_positive = scores.label.iter().filter(|it| 0.5 <= **it).count();
        if n_positive == 0 || n_positive == n {
            let class = if n_positive == 0 { "negative" } else { "positive" };
            return Err(NotMeasured::new(format!(
                "all {} rows are {class}",
                karat_core::thousands(n as u64)
            )));
        }
        Ok(Self::new(scores))
    }

    /// Calls `work` with the counts by rank: as they lie, or gathered.
    fn in_order<T>(&self, counts: &[u8], work: impl FnOnce(&[u8]) -> T) -> T {
        if self.order.is_empty() {
            return work(counts);
        }
        let gathered: Vec<u8> = self.order.iter().map(|row| counts[*row as usize]).collect();
        work(&gathered)
    }

    /// Runs of equal scores, ascending: (score, count of all, count of positives) under these counts.
    pub(super) fn runs(&self, counts: &[u8], mut visit: impl FnMut(f64, u64, u64)) {
        self.in_order(counts, |counts| {
            let mut from = 0;
            for (end, score) in self.ends.iter().zip(&self.scores) {
                let to = *end as usize;
                let (mut all, mut positive) = (0_u64, 0_u64);
                for (count, mask) in counts[from..to].iter().zip(&self.positive[from..to]) {
                    all += u64::from(*count);
                    positive += u64::from(*count & *mask);
                }
                visit(*score, all, positive);
                from = to;
            }
        });
    }

    /// Rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Placements: see [`Placements`].
    #[must_use]
    pub fn placements(&self) -> Placements {
        let mut share = vec![0.0; self.n_rows];
        let n_positive = self.positive.iter().filter(|it| **it != 0).count();
        let n_negative = self.n_rows - n_positive;
        let (mut positives_before, mut negatives_before, mut from) = (0, 0, 0);
        let mut wins = 0.0;
        for end in &self.ends {
            let to = *end as usize;
            let positives = self.positive[from..to].iter().filter(|it| **it != 0).count();
            let negatives = to - from - positives;
            let below = negatives_before as f64 + 0.5 * negatives as f64;
            let above = (n_positive - positives_before - positives) as f64 + 0.5 * positives as f64;
            for rank in from..to {
                let row = self.order.get(rank).map_or(rank, |it| *it as usize);
                share[row] = if self.positive[rank] == 0 {
                    above / n_positive as f64
                } else {
                    below / n_negative as f64
                };
            }
            wins += positives as f64 * below;
            positives_before += positives;
            negatives_before += negatives;
            from = to;
        }
        Placements {
            auc: wins / (n_positive as f64 * n_negative as f64),
            n_positive,
            n_negative,
            share,
        }
    }
}

/// For each positive the share of negatives that score lower, for each negative the share of positives that score
/// higher; equals count half. What DeLong's covariance and the leave-one-out AUC are made of.
#[derive(Clone, Debug)]
pub struct Placements {
    /// The AUC: the mean placement of the positives, and of the negatives.
    pub auc: f64,
    /// Positives.
    pub n_positive: usize,
    /// Negatives.
    pub n_negative: usize,
    /// `[n]`, in row order.
    pub share: Vec<f64>,
}

/// Area under the ROC curve.
#[derive(Clone, Debug)]
pub struct Auc(pub Ranked);

impl Statistic for Auc {
    fn value(&self, weights: Weights<'_>) -> f64 {
        let ranked = &self.0;
        ranked.in_order(weights.counts, |counts| {
            // Wins of positives over the negatives ranked before them, so equals count whole; then half of the wins
            // over equals is taken back. Integers: exact, and no rounding depends on order.
            let (mut negatives, mut wins) = (0_u64, 0_u64);
            for (count, mask) in counts.iter().zip(&ranked.positive) {
                let positive = *count & *mask;
                wins = wins.wrapping_add(u64::from(positive).wrapping_mul(negatives));
                negatives = negatives.wrapping_add(u64::from(*count ^ positive));
            }
            let sum = |from: u32, to: u32| -> u64 {
                counts[from as usize..to as usize].iter().map(|it| u64::from(*it)).sum()
            };
            let ties: u64 = ranked
                .mixed
                .iter()
                .map(|(from, split, to)| sum(*from, *split) * sum(*split, *to))
                .sum();
            let positives = weights.total - negatives;
            (wins as f64 - 0.5 * ties as f64) / (positives as f64 * negatives as f64)
        })
    }

    fn leave_one_out(&self) -> Option<Vec<f64>> {
        let placements = self.0.placements();
        let (m, n) = (placements.n_positive as f64, placements.n_negative as f64);
        let wins = placements.auc * m * n;
        let mut out = vec![0.0; self.0.n_rows];
        for (rank, mask) in self.0.positive.iter().enumerate() {
            let row = self.0.order.get(rank).map_or(rank, |it| *it as usize);
            out[row] = if *mask == 0 {
                (wins - placements.share[row] * m) / (m * (n - 1.0))
            } else {
                (wins - placements.share[row] * n) / ((m - 1.0) * n)
            };
        }
        Some(out)
    }
}

/// Σ (Rₖ − Rₖ₋₁) Pₖ over distinct scores, highest first.
#[derive(Clone, Debug)]
pub struct AveragePrecision(pub Ranked);

impl Statistic for AveragePrecision {
    fn value(&self, weights: Weights<'_>) -> f64 {
        let ranked = &self.0;
        ranked.in_order(weights.counts, |counts| {
            let (mut chosen, mut hit, mut sum) = (0_u64, 0_u64, 0.0);
            let mut to = counts.len();
            // Runs are walked from the highest score down: each starts where the one before it ends.
            let starts = ranked.ends.iter().rev().skip(1).copied().chain(std::iter::once(0));
            for start in starts {
                let from = start as usize;
                let (mut all, mut positive) = (0_u64, 0_u64);
                for (count, mask) in counts[from..to].iter().zip(&ranked.positive[from..to]) {
                    all += u64::from(*count);
                    positive += u64::from(*count & *mask);
                }
                chosen += all;
                hit += positive;
                if 0 < positive {
                    sum += positive as f64 * (hit as f64 / chosen as f64);
                }
                to = from;
            }
            sum / hit as f64
        })
    }
}
