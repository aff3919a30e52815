//! How many rows can go through the model at once, computed before the first update. What turns out only while training is
//! `careful`'s.

use karat_models::Config;

use crate::error::TrainError;

/// Share of a device's memory that is planned with: the rest is for what cannot be computed (fragmentation, the driver).
const USABLE: f64 = 0.8;
/// Copies of the weights while training: themselves, the gradient and its sum, two moments, and one in the making.
const COPIES: u64 = 6;
/// Copies of what a row leaves between layers: on the way forward and on the way back.
const WAYS: u64 = 2;

/// Bytes that a training takes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Demand {
    fixed: u64,
    per_row: u64,
}

impl Demand {
    fn of(config: &Config) -> Self {
        let number = size_of::<f32>() as u64;
        let n: u64 = config.parameters().iter().map(|it| it.n_elements() as u64).sum();
        Self {
            fixed: n * number * COPIES,
            per_row: config.numbers_per_row() as u64 * number * WAYS,
        }
    }

    fn of_rows(self, n_rows: usize) -> u64 {
        self.fixed.saturating_add(self.per_row.saturating_mul(n_rows as u64))
    }
}

/// `wanted` rows, halved until they fit into `available` bytes; as wanted where nobody knows how many there are.
pub(crate) fn rows_that_fit(
    config: &Config,
    wanted: usize,
    available: Option<u64>,
) -> Result<usize, TrainError> {
    let Some(available) = available else { return Ok(wanted) };
    let demand = Demand::of(config);
    let usable = (available as f64 * USABLE) as u64;
    let mut n_rows = wanted.max(1);
    while usable < demand.of_rows(n_rows) {
        if n_rows == 1 {
            return Err(TrainError::BudgetExceeded {
                needed: demand.of_rows(1),
                usable,
                available,
            });
        }
        n_rows = n_rows.div_ceil(2);
    }
    Ok(n_rows)
}

#[cfg(test)]
mod tests {
    use karat_core::Failure;
    use karat_models::{Config, mlp};

    use super::{Demand, rows_that_fit};

    /// 10 numbers, 1,000 hidden units, 1 output: 12,001 weights.
    fn config() -> Config {
        Config::Mlp(mlp::Config {
            n_numeric: 10,
            cardinalities: Vec::new(),
            widths: Vec::new(),
            hidden: vec![1000],
            n_outputs: 1,
            dropout: 0.0,
        })
    }

    #[test]
    fn rows_are_halved_until_they_fit_with_headroom() {
        let demand = Demand::of(&config());
        assert_eq!(demand.fixed, 12_001 * 4 * 6);
        // A row takes at least its hidden units, forth and back, and not a multiple of that.
        assert!((8_000..40_000).contains(&demand.per_row), "{demand:?}");
        let bytes = |n_rows: usize| Some((demand.of_rows(n_rows) as f64 / 0.8) as u64 + 2);
        for (wanted, room, expected) in
            [(1000, 1000, 1000), (1000, 999, 500), (1000, 130, 125), (1000, 1, 1), (7, 3, 2)]
        {
            let found = rows_that_fit(&config(), wanted, bytes(room)).expect("one row fits");
            assert_eq!(found, expected, "{wanted} wanted, room for {room}");
        }
        assert_eq!(rows_that_fit(&config(), 1000, None).expect("nobody knows"), 1000);
    }

    #[test]
    fn not_enough_for_one_row_is_an_error_with_both_numbers() {
        let error = rows_that_fit(&config(), 64, Some(1 << 18)).expect_err("256 KiB");
        let failure = Failure::from(error);
        assert_eq!((failure.code.as_str(), failure.exit.code()), ("memory-insufficient", 3));
        assert_eq!(
            failure.message,
            "not enough memory to train: one row at a time takes 1 MiB, and 1 MiB of 1 are to be used"
        );
    }
}
