//! Metrics of squared error that are not plain means: RMSE and R².

use super::{LANES, NotMeasured, Scores, Statistic, Weights, mean::dot};

/// √ of the mean squared error.
#[derive(Clone, Debug)]
pub struct RootMean {
    squares: Vec<f64>,
}

pub(super) fn root_mean_squared_error(scores: &Scores<'_>) -> RootMean {
    RootMean { squares: squared_errors(scores) }
}

impl RootMean {
    fn of<const L: usize>(&self, weights: Weights<'_, L>) -> [f64; L] {
        let sums = dot(weights.counts, &self.squares);
        std::array::from_fn(|lane| libm::sqrt(sums[lane] / f64::from(weights.totals[lane])))
    }
}

impl Statistic for RootMean {
    fn value(&self, weights: Weights<'_, 1>) -> f64 {
        self.of(weights)[0]
    }

    fn values(&self, weights: Weights<'_, LANES>) -> [f64; LANES] {
        self.of(weights)
    }

    fn leave_one_out(&self) -> Option<Vec<f64>> {
        let sum: f64 = self.squares.iter().sum();
        let rest = self.squares.len() as f64 - 1.0;
        Some(self.squares.iter().map(|it| libm::sqrt((sum - it).max(0.0) / rest)).collect())
    }
}

/// 1 − Σ (y − ŷ)² / Σ (y − ȳ)².
#[derive(Clone, Debug)]
pub struct RSquared {
    squares: Vec<f64>,
    /// Labels minus their mean: a large common offset must not cancel digits.
    centred: Vec<f64>,
    centred_squares: Vec<f64>,
}

pub(super) fn r_squared(scores: &Scores<'_>) -> Result<RSquared, NotMeasured> {
    let n = scores.label.len() as f64;
    let mean = scores.label.iter().map(|it| f64::from(*it)).sum::<f64>() / n;
    let centred: Vec<f64> = scores.label.iter().map(|it| f64::from(*it) - mean).collect();
    let centred_squares: Vec<f64> = centred.iter().map(|it| it * it).collect();
    let first = scores.label[0];
    if scores.label.iter().all(|it| it.to_bits() == first.to_bits()) {
        return Err(NotMeasured::new(format!("every label is {first}")));
    }
    Ok(RSquared { squares: squared_errors(scores), centred, centred_squares })
}

impl RSquared {
    fn of<const L: usize>(&self, weights: Weights<'_, L>) -> [f64; L] {
        let sums = dot(weights.counts, &self.centred);
        let squares = dot(weights.counts, &self.centred_squares);
        let residuals = dot(weights.counts, &self.squares);
        std::array::from_fn(|lane| {
            let total = squares[lane] - sums[lane] * sums[lane] / f64::from(weights.totals[lane]);
            // Below this the labels of the resample are equal but for rounding.
            let is_constant = total <= 1e-12 * residuals[lane];
            if is_constant { f64::NAN } else { 1.0 - residuals[lane] / total }
        })
    }
}

impl Statistic for RSquared {
    fn value(&self, weights: Weights<'_, 1>) -> f64 {
        self.of(weights)[0]
    }

    fn values(&self, weights: Weights<'_, LANES>) -> [f64; LANES] {
        self.of(weights)
    }

    fn leave_one_out(&self) -> Option<Vec<f64>> {
        let n = self.squares.len() as f64;
        let (residual, total): (f64, f64) =
            (self.squares.iter().sum(), self.centred_squares.iter().sum());
        // Σ (y − ȳ)² without row i, whose mean also moves: total − (yᵢ − ȳ)² n / (n − 1).
        let without = |(square, centred): (&f64, &f64)| {
            1.0 - (residual - square) / (total - centred * n / (n - 1.0))
        };
        Some(self.squares.iter().zip(&self.centred_squares).map(without).collect())
    }
}

fn squared_errors(scores: &Scores<'_>) -> Vec<f64> {
    let square = |(y, p): (&f32, &f32)| {
        let error = f64::from(*p) - f64::from(*y);
        error * error
    };
    scores.label.iter().zip(scores.score).map(square).collect()
}
