//! How far one sample lies from another: distances between shares, and tests of two samples.
//!
//! A distance says how much, a test whether it could be chance; at a million rows a test fires at everything, at two hundred
//! rows a distance does ([`psi_null`] says how often). So a monitor compares the distance with the larger of a practical bound and
//! what chance alone gives at these sizes.
//!
//! Shares are by bin and sum to 1; a bin empty on one side makes PSI and Kullback–Leibler infinite, which is true.
//!
//! Golden values: docs/design/009-gate-statistics.md.

use crate::normal::chi_squared_tail;

/// Population stability index Σ (p − q) ln(p / q).
#[must_use]
pub fn psi(p: &[f64], q: &[f64]) -> f64 {
    // A bin empty on both sides says nothing.
    sum(p, q, |p, q| if p.max(q) <= 0.0 { 0.0 } else { (p - q) * libm::log(p / q) })
}

/// Kullback–Leibler divergence Σ p ln(p / q) of `p` from `q`.
#[must_use]
pub fn kullback_leibler(p: &[f64], q: &[f64]) -> f64 {
    sum(p, q, |p, q| if p <= 0.0 { 0.0 } else { p * libm::log(p / q) })
}

/// Jensen–Shannon distance: the root of the mean divergence from the mean, in nats; at most √ln 2.
#[must_use]
pub fn jensen_shannon(p: &[f64], q: &[f64]) -> f64 {
    let mean: Vec<f64> = p.iter().zip(q).map(|(p, q)| 0.5 * (p + q)).collect();
    libm::sqrt((0.5 * (kullback_leibler(p, &mean) + kullback_leibler(q, &mean))).max(0.0))
}

/// Hellinger distance √(½ Σ (√p − √q)²); at most 1.
#[must_use]
pub fn hellinger(p: &[f64], q: &[f64]) -> f64 {
    let square = |p: f64, q: f64| {
        let gap = libm::sqrt(p) - libm::sqrt(q);
        gap * gap
    };
    libm::sqrt(0.5 * sum(p, q, square))
}

/// Chance that PSI over `n_bins` exceeds `bound` although nothing drifts: (1/n + 1/m) χ² with bins − 1 degrees of freedom.
#[must_use]
pub fn psi_null(bound: f64, n_bins: u32, n: f64, m: f64) -> f64 {
    chi_squared_tail(bound / (1.0 / n + 1.0 / m), f64::from(n_bins) - 1.0)
}

fn sum(p: &[f64], q: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
    p.iter().zip(q).map(|(p, q)| term(*p, *q)).sum()
}

/// χ² of a table of counts, rows × columns, without correction, with its P. A row or column of zeros says nothing.
#[must_use]
pub fn chi_squared(table: &[Vec<f64>]) -> (f64, f64) {
    let n_columns = table.first().map_or(0, Vec::len);
    let rows: Vec<f64> = table.iter().map(|it| it.iter().sum()).collect();
    let columns: Vec<f64> = (0..n_columns).map(|at| table.iter().map(|it| it[at]).sum()).collect();
    let total: f64 = rows.iter().sum();
    let mut statistic = 0.0;
    for (row, in_row) in table.iter().zip(&rows) {
        for (count, in_column) in row.iter().zip(&columns) {
            let expected = in_row * in_column / total;
            if 0.0 < expected {
                statistic += (count - expected) * (count - expected) / expected;
            }
        }
    }
    let lively =
        |sums: &[f64]| sums.iter().filter(|it| 0.0 < **it).count().saturating_sub(1) as f64;
    (statistic, chi_squared_tail(statistic, lively(&rows) * lively(&columns)))
}

/// Two samples, each sorted. Neither may be empty or hold NaN.
#[derive(Clone, Debug)]
pub struct TwoSamples {
    x: Vec<f64>,
    y: Vec<f64>,
}

impl TwoSamples {
    /// Sorts both.
    #[must_use]
    pub fn new(mut x: Vec<f64>, mut y: Vec<f64>) -> Self {
        x.sort_by(f64::total_cmp);
        y.sort_by(f64::total_cmp);
        Self { x, y }
    }

    /// Both distribution functions after each distinct value, with the way to the next one: (F, G, gap), counts not shares.
    fn steps(&self) -> impl Iterator<Item = (u64, u64, f64)> + '_ {
        let mut values: Vec<f64> = self.x.iter().chain(&self.y).copied().collect();
        values.sort_by(f64::total_cmp);
        values.dedup_by(|a, b| a.total_cmp(b).is_eq());
        let next: Vec<f64> = values.iter().skip(1).copied().collect();
        values.into_iter().enumerate().map(move |(at, value)| {
            let up_to = |sorted: &[f64]| sorted.partition_point(|it| *it <= value) as u64;
            (up_to(&self.x), up_to(&self.y), next.get(at).map_or(0.0, |it| it - value))
        })
    }

    /// Kolmogorov–Smirnov: the largest gap between the two distribution functions, with its exact P, by counting the paths that
    /// stay closer (Hodges 1957). O(n m): for samples, not for tables.
    #[must_use]
    pub fn kolmogorov_smirnov(&self) -> (f64, f64) {
        let (n, m) = (self.x.len() as u64, self.y.len() as u64);
        // In units of 1 / (n m): whole numbers, so that "as large" is exact.
        let gap = |i: u64, j: u64| (i * m).abs_diff(j * n);
        let largest = self.steps().map(|(i, j, _)| gap(i, j)).max().unwrap_or(0);
        // Share of the paths to (i, j) that stayed inside; by columns.
        let mut inside = vec![0.0; m as usize + 1];
        for i in 0..=n {
            for j in 0..=m {
                let at = j as usize;
                let stays = if i == 0 && j == 0 {
                    1.0
                } else {
                    // A path to (i, j) comes from the left with chance i / (i + j).
                    let from_left = if i == 0 { 0.0 } else { inside[at] * i as f64 };
                    let from_below = if j == 0 { 0.0 } else { inside[at - 1] * j as f64 };
                    (from_left + from_below) / (i + j) as f64
                };
                inside[at] = if largest <= gap(i, j) { 0.0 } else { stays };
            }
        }
        let p = if largest == 0 { 1.0 } else { 1.0 - inside[m as usize] };
        (largest as f64 / (n * m) as f64, p)
    }

    /// Wasserstein-1: the area between the two distribution functions, in the unit of the values.
    #[must_use]
    pub fn wasserstein(&self) -> f64 {
        let (n, m) = (self.x.len() as f64, self.y.len() as f64);
        self.steps().map(|(i, j, gap)| gap * (i as f64 / n - j as f64 / m).abs()).sum()
    }

    /// Unbiased squared maximum mean discrepancy under the kernel exp(−d² / 2σ²); may be negative. O((n + m)²); each sample
    /// needs two values.
    #[must_use]
    pub fn mmd_squared(&self, sigma: f64) -> f64 {
        let kernel = |a: f64, b: f64| libm::exp(-(a - b) * (a - b) / (2.0 * sigma * sigma));
        let all = |x: &[f64], y: &[f64]| -> f64 {
            x.iter().flat_map(|a| y.iter().map(move |b| kernel(*a, *b))).sum()
        };
        let (n, m) = (self.x.len() as f64, self.y.len() as f64);
        // Everybody is at distance 0 from himself.
        let within = |x: &[f64], n: f64| (all(x, x) - n) / (n * (n - 1.0));
        within(&self.x, n) + within(&self.y, m) - 2.0 * all(&self.x, &self.y) / (n * m)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        TwoSamples, chi_squared, hellinger, jensen_shannon, kullback_leibler, psi, psi_null,
    };
    use crate::testing::assert_close;

    const P: [f64; 4] = [0.1, 0.2, 0.3, 0.4];
    const Q: [f64; 4] = [0.25; 4];

    #[test]
    fn distances_are_those_of_the_reference() {
        assert_close(psi(&P, &Q), 0.228_217_409_573, 1e-11);
        assert_close(psi(&Q, &P), psi(&P, &Q), 1e-14);
        assert_close(kullback_leibler(&P, &Q), 0.106_440_135_286, 1e-11);
        assert_close(jensen_shannon(&P, &Q), 0.166_929_965_726, 1e-11);
        let base_2 = jensen_shannon(&P, &Q) / libm::sqrt(std::f64::consts::LN_2);
        assert_close(base_2, 0.200_503_322_531, 1e-11);
        assert_close(hellinger(&P, &Q), 0.167_899_596_403, 1e-11);
        for distance in [psi, kullback_leibler, jensen_shannon, hellinger] {
            assert!(distance(&P, &P).abs() < 1e-15);
        }
        assert!(psi(&[1.0, 0.0], &[0.5, 0.5]).is_infinite());
        assert_close(hellinger(&[1.0, 0.0], &[0.0, 1.0]), 1.0, 1e-15);
    }

    #[test]
    fn psi_fires_where_nothing_drifts() {
        for (bound, bins, n, m, share, within) in [
            (0.1, 10, 200.0, 200.0, 0.35, 5e-3),
            (0.2, 10, 200.0, 200.0, 0.018, 5e-4),
            (0.1, 10, 1000.0, 100.0, 0.43, 5e-3),
            (0.1, 10, 500.0, 500.0, 0.003, 5e-4),
            (0.1, 10, 1000.0, 1000.0, 1e-7, 5e-8),
            (0.1, 20, 200.0, 200.0, 0.95, 5e-3),
        ] {
            let found = psi_null(bound, bins, n, m);
            assert!((found - share).abs() <= within, "{bound} {bins} {n}: {found}");
        }
        assert_close(psi_null(3.4e-5, 10, 1e6, 1e6), 0.05, 0.03);
    }

    #[test]
    fn chi_squared_has_its_golden_value() {
        let (statistic, p) = chi_squared(&[vec![10.0, 20.0], vec![20.0, 20.0]]);
        assert_close(statistic, 35.0 / 18.0, 1e-12);
        assert_close(p, 0.163_186_775, 3e-9);
        let (_, p) = chi_squared(&[vec![10.0, 20.0, 0.0], vec![20.0, 20.0, 0.0]]);
        assert_close(p, 0.163_186_775, 3e-9);
        assert!((chi_squared(&[vec![1.0, 2.0]]).1 - 1.0).abs() < 1e-15);
    }

    #[test]
    fn kolmogorov_smirnov_is_exact() {
        let x = [vec![2.0; 3], vec![3.0; 4], vec![5.0; 5], vec![6.0; 4]].concat();
        let y = x.iter().map(|it| it + 1.0).collect();
        let (d, p) = TwoSamples::new(x, y).kolmogorov_smirnov();
        assert_close(d, 5.0 / 16.0, 1e-15);
        assert_close(p, 0.426_293_461_345_495_2, 1e-12);
        let x = (0..100).map(|i| 1.0 + f64::from(i)).collect();
        let y = (0..110).map(|i| 1.0 + 99.0 / 109.0 * f64::from(i) + 20.1).collect();
        let (d, p) = TwoSamples::new(x, y).kolmogorov_smirnov();
        assert_close(d, 232.0 / 1100.0, 1e-14);
        assert_close(p, 0.015_739_183_865_607_353, 1e-11);
        let same = TwoSamples::new(vec![1.0, 2.0], vec![2.0, 1.0]);
        assert_eq!(same.kolmogorov_smirnov(), (0.0, 1.0));
    }

    #[test]
    fn wasserstein_and_mmd_have_their_golden_values() {
        let of = |x: &[f64], y: &[f64]| TwoSamples::new(x.to_vec(), y.to_vec());
        assert_close(of(&[0.0, 1.0, 3.0], &[5.0, 6.0, 8.0]).wasserstein(), 5.0, 1e-14);
        assert_close(of(&[0.0, 1.0], &[0.0, 1.0, 2.0]).wasserstein(), 0.5, 1e-14);
        let found = of(&[0.0, 1.0, 2.0], &[1.0, 2.0, 4.0]).mmd_squared(1.0);
        assert_close(found, -0.211_033_264_790, 1e-11);
    }
}
