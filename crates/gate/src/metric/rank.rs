//! Metrics of the order of scores: AUC and average precision. Ties count half (AUC) or share a threshold (AP).

use super::{LANES, NotMeasured, Scores, Statistic, Weights};

/// Binary rows by ascending score; among equal scores the negatives first.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Row at each rank; empty when the rows already are in this order.
    order: Vec<u32>,
    n_rows: usize,
    is_positive: Vec<bool>,
    /// Runs of equal scores, ascending.
    runs: Vec<Run>,
}

/// Ranks with one score.
#[derive(Clone, Copy, Debug)]
struct Run {
    score: f64,
    /// First rank.
    from: u32,
    /// Rank of the first positive; `to` without one.
    positives_from: u32,
    /// Rank after the last.
    to: u32,
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
        let is_positive: Vec<bool> = order.iter().map(is_positive).collect();
        let mut runs = Vec::new();
        let mut from = 0;
        for run in order.chunk_by(|a, b| score_of(a).to_bits() == score_of(b).to_bits()) {
            let to = from + run.len();
            let n_negative = is_positive[from..to].iter().take_while(|it| !**it).count();
            runs.push(Run {
                score: f64::from(score_of(&run[0])),
                from: from as u32,
                positives_from: (from + n_negative) as u32,
                to: to as u32,
            });
            from = to;
        }
        if order.iter().enumerate().all(|(rank, row)| rank == *row as usize) {
            order = Vec::new();
        }
        Self { order, n_rows, is_positive, runs }
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

    /// Shows `visitor` the runs of equal scores, from the highest down.
    pub(crate) fn visit<const L: usize>(&self, counts: &[[u8; L]], visitor: &mut impl Visit<L>) {
        // Two loops, so that the common one, over rows that lie in order, looks nothing up.
        if self.order.is_empty() {
            self.walk(|rank| &counts[rank as usize], visitor);
        } else {
            self.walk(|rank| &counts[self.order[rank as usize] as usize], visitor);
        }
    }

    fn walk<'a, const L: usize>(
        &self,
        counts_at: impl Fn(u32) -> &'a [u8; L],
        visitor: &mut impl Visit<L>,
    ) {
        let sum = |from: u32, to: u32| {
            let mut sums = [0_i32; L];
            for rank in from..to {
                for (sum, count) in sums.iter_mut().zip(counts_at(rank)) {
                    *sum = sum.wrapping_add(i32::from(*count));
                }
            }
            sums
        };
        for run in self.runs.iter().rev() {
            let is_positive = run.positives_from == run.from;
            // Nearly every run is one row.
            if run.to - run.from == 1 {
                let counts = counts_at(run.from).map(i32::from);
                if is_positive {
                    visitor.run(run.score, None, Some(counts));
                } else {
                    visitor.run(run.score, Some(counts), None);
                }
                continue;
            }
            let negatives = (!is_positive).then(|| sum(run.from, run.positives_from));
            let positives = (run.positives_from < run.to).then(|| sum(run.positives_from, run.to));
            visitor.run(run.score, negatives, positives);
        }
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
        let n_positive = self.is_positive.iter().filter(|it| **it).count();
        let n_negative = self.n_rows - n_positive;
        let (mut positives_before, mut negatives_before) = (0, 0);
        let mut wins = 0.0;
        for run in &self.runs {
            let (from, to) = (run.from as usize, run.to as usize);
            let positives = (run.to - run.positives_from) as usize;
            let negatives = to - from - positives;
            let below = negatives_before as f64 + 0.5 * negatives as f64;
            let above = (n_positive - positives_before - positives) as f64 + 0.5 * positives as f64;
            for rank in from..to {
                let row = self.order.get(rank).map_or(rank, |it| *it as usize);
                share[row] = if self.is_positive[rank] {
                    below / n_negative as f64
                } else {
                    above / n_positive as f64
                };
            }
            wins += positives as f64 * below;
            positives_before += positives;
            negatives_before += negatives;
        }
        Placements {
            auc: wins / (n_positive as f64 * n_negative as f64),
            n_positive,
            n_negative,
            share,
        }
    }
}

/// What is done with each run of equal scores: its counts by class; a class without a row is `None`. Not a closure,
/// because it must be inlined where one of the classes is known to be absent.
pub(crate) trait Visit<const L: usize> {
    /// The next run.
    fn run(&mut self, score: f64, negatives: Option<[i32; L]>, positives: Option<[i32; L]>);
}

/// `sums` + `counts`, lane by lane.
#[inline]
pub(crate) fn add<const L: usize>(sums: &mut [i32; L], counts: &[i32; L]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum = sum.wrapping_add(*count);
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

impl Auc {
    fn of<const L: usize>(&self, weights: Weights<'_, L>) -> [f64; L] {
        let mut found = Wins { above: [0; L], twice: [0; L] };
        self.0.visit(weights.counts, &mut found);
        std::array::from_fn(|lane| {
            let positives = f64::from(found.above[lane]);
            let negatives = f64::from(weights.totals[lane]) - positives;
            0.5 * found.twice[lane] as f64 / (positives * negatives)
        })
    }
}

/// Twice the wins of positives over negatives, because equals count half: whole numbers, so nothing is rounded.
struct Wins<const L: usize> {
    /// Positives so far.
    above: [i32; L],
    twice: [u64; L],
}

impl<const L: usize> Visit<L> for Wins<L> {
    #[inline(always)]
    fn run(&mut self, _: f64, negatives: Option<[i32; L]>, positives: Option<[i32; L]>) {
        if let Some(negatives) = negatives {
            for lane in 0..L {
                let equal = positives.map_or(0, |it| it[lane]);
                let beaten_by = self.above[lane].wrapping_mul(2).wrapping_add(equal);
                let won = u64::from(negatives[lane] as u32) * u64::from(beaten_by as u32);
                self.twice[lane] = self.twice[lane].wrapping_add(won);
            }
        }
        if let Some(positives) = positives {
            add(&mut self.above, &positives);
        }
    }
}

impl Statistic for Auc {
    fn value(&self, weights: Weights<'_, 1>) -> f64 {
        self.of(weights)[0]
    }

    fn values(&self, weights: Weights<'_, LANES>) -> [f64; LANES] {
        self.of(weights)
    }

    fn leave_one_out(&self) -> Option<Vec<f64>> {
        let placements = self.0.placements();
        let (m, n) = (placements.n_positive as f64, placements.n_negative as f64);
        let wins = placements.auc * m * n;
        let mut out = vec![0.0; self.0.n_rows];
        for (rank, is_positive) in self.0.is_positive.iter().enumerate() {
            let row = self.0.order.get(rank).map_or(rank, |it| *it as usize);
            out[row] = if *is_positive {
                (wins - placements.share[row] * n) / ((m - 1.0) * n)
            } else {
                (wins - placements.share[row] * m) / (m * (n - 1.0))
            };
        }
        Some(out)
    }
}

/// Σ (Rₖ − Rₖ₋₁) Pₖ over distinct scores, highest first.
#[derive(Clone, Debug)]
pub struct AveragePrecision(pub Ranked);

impl AveragePrecision {
    fn of<const L: usize>(&self, weights: Weights<'_, L>) -> [f64; L] {
        let mut found = Precisions { chosen: [0; L], hit: [0; L], sum: [0.0; L] };
        self.0.visit(weights.counts, &mut found);
        std::array::from_fn(|lane| found.sum[lane] / f64::from(found.hit[lane]))
    }
}

/// Rows so far, positives among them, and Σ positives × precision.
struct Precisions<const L: usize> {
    chosen: [i32; L],
    hit: [i32; L],
    sum: [f64; L],
}

impl<const L: usize> Visit<L> for Precisions<L> {
    #[inline(always)]
    fn run(&mut self, _: f64, negatives: Option<[i32; L]>, positives: Option<[i32; L]>) {
        if let Some(negatives) = negatives {
            add(&mut self.chosen, &negatives);
        }
        let Some(positives) = positives else { return };
        add(&mut self.chosen, &positives);
        add(&mut self.hit, &positives);
        for (lane, positives) in positives.into_iter().enumerate() {
            let chosen = f64::from(self.chosen[lane]);
            // Nothing drawn yet: then nothing is added either.
            let chosen = if chosen < 1.0 { 1.0 } else { chosen };
            self.sum[lane] += f64::from(positives) * (f64::from(self.hit[lane]) / chosen);
        }
    }
}

impl Statistic for AveragePrecision {
    fn value(&self, weights: Weights<'_, 1>) -> f64 {
        self.of(weights)[0]
    }

    fn values(&self, weights: Weights<'_, LANES>) -> [f64; LANES] {
        self.of(weights)
    }
}
