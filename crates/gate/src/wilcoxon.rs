//! Wilcoxon's signed rank test: are differences as often and as far above 0 as below? The robust sibling of the sign flips on
//! the mean: one huge difference counts as one rank.
//!
//! Differences of 0 say nothing and are left out; equal sizes share the mean of their ranks. Exact for up to
//! [`EXACT_MAX`] differences, by counting the sign patterns of these very ranks (ties included); above, normal with the ties'
//! variance and half a rank of continuity correction.
//!
//! Source: Wilcoxon 1945; Pratt and Gibbons 1981.

use crate::normal::two_sided;

/// Differences up to which all 2ⁿ patterns are counted.
pub const EXACT_MAX: usize = 50;

/// Sum of the ranks of positive differences, with its test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignedRank {
    /// R calls it V.
    pub positive_ranks: f64,
    /// Differences that are not 0.
    pub n: usize,
    /// Two-sided P of "symmetric about 0".
    pub p: f64,
}

/// Of the differences; a NaN makes P NaN.
#[must_use]
pub fn signed_rank(differences: &[f64]) -> SignedRank {
    if differences.iter().any(|it| it.is_nan()) {
        return SignedRank { positive_ranks: f64::NAN, n: differences.len(), p: f64::NAN };
    }
    let mut kept: Vec<f64> = differences.iter().copied().filter(|it| *it != 0.0).collect();
    kept.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    // Twice the rank: whole also where ranks are shared.
    let mut twice = Vec::with_capacity(kept.len());
    let mut positive = 0_u64;
    for run in kept.chunk_by(|a, b| a.abs().to_bits() == b.abs().to_bits()) {
        let rank = (2 * twice.len() + run.len() + 1) as u64;
        positive += rank * run.iter().filter(|it| 0.0 < **it).count() as u64;
        twice.extend(run.iter().map(|_| rank));
    }
    let total: u64 = twice.iter().sum();
    // Symmetric about half of the total: how far from it, in quarter ranks.
    let distance = (2 * positive).abs_diff(total);
    let p = if kept.is_empty() {
        1.0
    } else if kept.len() <= EXACT_MAX {
        exact(&twice, total, distance)
    } else {
        let squares: f64 = twice.iter().map(|it| (it * it) as f64).sum();
        // Half a rank is two quarter ranks.
        two_sided(distance.saturating_sub(2) as f64 / libm::sqrt(squares))
    };
    SignedRank { positive_ranks: 0.5 * positive as f64, n: kept.len(), p }
}

/// Share of the sign patterns at least as far from the middle.
fn exact(twice: &[u64], total: u64, distance: u64) -> f64 {
    let mut share = vec![0.0; total as usize + 1];
    share[0] = 1.0;
    let mut reached = 0;
    for rank in twice.iter().map(|it| *it as usize) {
        for sum in (0..=reached).rev() {
            share[sum] *= 0.5;
            share[sum + rank] += share[sum];
        }
        reached += rank;
    }
    let is_as_far = |sum: &(usize, f64)| distance <= (2 * sum.0 as u64).abs_diff(total);
    let p: f64 = share.into_iter().enumerate().filter(is_as_far).map(|(_, share)| share).sum();
    p.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::{EXACT_MAX, exact, signed_rank};
    use crate::testing::{assert_close, normals};

    /// Depression scale factors of nine patients, from R's help of `wilcox.test` (Hollander and Wolfe 1973).
    #[test]
    fn the_example_of_r_has_its_rank_sum_and_p() {
        // In thousandths.
        let before = [1830.0, 500.0, 1620.0, 2480.0, 1680.0, 1880.0, 1550.0, 3060.0, 1300.0];
        let after = [878.0, 647.0, 598.0, 2050.0, 1060.0, 1290.0, 1060.0, 3140.0, 1290.0];
        let differences: Vec<f64> = before.iter().zip(after).map(|(x, y)| x - y).collect();
        let found = signed_rank(&differences);
        assert_close(found.positive_ranks, 40.0, 1e-15);
        assert_close(found.p, 0.039_062_5, 1e-14);
        let swapped: Vec<f64> = differences.iter().map(|it| -it).collect();
        assert_close(signed_rank(&swapped).p, found.p, 1e-15);
        assert_close(signed_rank(&swapped).positive_ranks, 5.0, 1e-15);
    }

    #[test]
    fn ties_share_ranks_and_zeros_say_nothing() {
        // Ranks 1.5 1.5 3: sums 0 1.5 1.5 3 3 4.5 4.5 6; only 0 and 6 are as far from 3 as 6.
        let found = signed_rank(&[1.0, 0.0, 1.0, 2.0]);
        assert_eq!((found.n, found.positive_ranks.to_bits()), (3, 6.0_f64.to_bits()));
        assert_close(found.p, 0.25, 1e-15);
        assert_close(signed_rank(&[]).p, 1.0, 1e-15);
        assert_close(signed_rank(&[0.0; 4]).p, 1.0, 1e-15);
        assert!(signed_rank(&[f64::NAN]).p.is_nan());
    }

    #[test]
    fn exact_and_normal_agree_where_they_meet() {
        let differences: Vec<f64> =
            normals("signed rank", EXACT_MAX + 1).into_iter().map(|z| z + 0.3).collect();
        let found = signed_rank(&differences);
        let twice: Vec<u64> = (1..=EXACT_MAX as u64 + 1).map(|rank| 2 * rank).collect();
        let total: u64 = twice.iter().sum();
        let distance = (4.0 * found.positive_ranks) as u64;
        let p = exact(&twice, total, distance.abs_diff(total));
        assert!((found.p - p).abs() < 0.003, "{} {p}", found.p);
    }
}
