//! What training again with other seeds would change: the uncertainty of a claim about the *recipe*.
//!
//! Promoting one trained model needs the choice of rows alone, so this decides nothing. With models k = 1..K of one recipe
//! on the same n rows, their mean value varies by σ²_seed/K + σ²_item/n + σ²_both/(Kn):
//!
//! | part | how |
//! |---|---|
//! | item | variance of the mean of all K over resamples of the rows |
//! | seed | sample variance of the K values / K |
//! | joint | two levels: K − 1 of the K models drawn with replacement, then rows, the same rows for all |
//!
//! K − 1 and not K: the variance of a mean of K draws from K values is too small by (K − 1)/K (Rao and Wu 1988). Where the
//! baseline's recipe has seeds too, all three are of the difference of the two means.

use karat_core::{
    ScoredRows,
    metric::Metric,
    policy::Gate,
    rng::{Purpose, Stream},
    verdict::SeedVariance,
};

use crate::{
    bootstrap::Resampling,
    metric::{NotMeasured, Scores, Statistic, prepare, value_of},
    parallel::Parallel,
    predictions::comparable,
    sample::Sample,
    votes::Wide,
};

/// The models of one recipe.
pub(super) fn recipe<'a>(own: &'a ScoredRows, seeds: &'a [Wide<'_>]) -> Vec<&'a ScoredRows> {
    std::iter::once(own).chain(seeds.iter().map(|it| &*it.rows)).collect()
}

/// Of the first metric that the gate judges. None with one seed; the baseline's recipe counts when it has several.
pub(super) fn variance(
    gate: &Gate,
    candidate: Vec<&ScoredRows>,
    baseline: Option<Vec<&ScoredRows>>,
    parallel: &dyn Parallel,
) -> Option<Result<SeedVariance, NotMeasured>> {
    let task = candidate.first()?.task;
    if candidate.len() < 2 {
        return None;
    }
    let own = gate.rules.iter().map(|rule| rule.metric).find(|it| it.fits(task));
    let metric = own.or_else(|| Metric::ALL.into_iter().find(|it| it.fits(task)))?;
    let baseline = baseline.filter(|it| 2 <= it.len()).unwrap_or_default();
    Some(of_metric(gate, metric, &[candidate, baseline], parallel))
}

fn of_metric(
    gate: &Gate,
    metric: Metric,
    recipes: &[Vec<&ScoredRows>; 2],
    parallel: &dyn Parallel,
) -> Result<SeedVariance, NotMeasured> {
    let candidate = recipes[0][0];
    for other in recipes.iter().flatten() {
        comparable(candidate, other).map_err(|error| NotMeasured::new(error.to_string()))?;
    }
    let all: Vec<u32> = (0..candidate.n_rows() as u32).collect();
    // One order of rows for all models, so that a resample takes the same rows of each.
    let sample = Sample::new(candidate, None, &all);
    let n_outputs = candidate.n_outputs();
    let in_order = |rows: &&ScoredRows| -> Vec<f32> {
        let of_row = |row: &u32| &rows.score[*row as usize * n_outputs..][..n_outputs];
        sample.source.iter().flat_map(of_row).copied().collect()
    };
    let scores: Vec<Vec<f32>> = recipes.iter().flatten().map(in_order).collect();
    let prepared: Vec<Box<dyn Statistic>> = scores
        .iter()
        .map(|score| prepare(metric, &Scores { score, ..sample.candidate() }))
        .collect::<Result<_, _>>()?;
    let values: Vec<f64> =
        prepared.iter().map(|it| value_of(&**it, sample.n_rows())).collect::<Result<_, _>>()?;
    let statistics: Vec<&dyn Statistic> = prepared.iter().map(|it| &**it).collect();
    let name = format!("{}/seeds", gate.name);
    let resampled = Resampling::new(&name, &sample, gate.n_resamples).run(&statistics, parallel);

    let n_candidate = recipes[0].len();
    let sides = [0..n_candidate, n_candidate..values.len()];
    let draws = Stream::new(0, Purpose::Bootstrap, &name);
    let of_resample = |at: usize| {
        let (mut fixed, mut drawn) = (0.0, 0.0);
        for (side, sign) in sides.iter().zip([1.0, -1.0]).filter(|(side, _)| !side.is_empty()) {
            let k = side.len() as f64;
            fixed += sign * resampled[side.clone()].iter().map(|it| it[at]).sum::<f64>() / k;
            let pick = |draw: usize| {
                let uniform = f64::from(draws.uniform(at as u32, draw as u32, 0));
                let model = ((uniform * k) as usize).min(side.len() - 1);
                resampled[side.start + model][at]
            };
            // The first place of each side stays empty: K − 1 draws.
            drawn += sign * side.clone().skip(1).map(pick).sum::<f64>() / (k - 1.0);
        }
        (fixed, drawn)
    };
    let (fixed, drawn): (Vec<f64>, Vec<f64>) =
        (0..gate.n_resamples as usize).map(of_resample).unzip();
    let of_side = |side: &std::ops::Range<usize>| match side.len() {
        0 => 0.0,
        k => variance_of(&values[side.clone()]) / k as f64,
    };
    let found = SeedVariance {
        n_seeds: n_candidate as u32,
        n_seeds_baseline: (!recipes[1].is_empty()).then_some(recipes[1].len() as u32),
        metric,
        item: variance_of(&fixed),
        seed: sides.iter().map(of_side).sum(),
        joint: variance_of(&drawn),
    };
    if [found.item, found.seed, found.joint].into_iter().all(f64::is_finite) {
        Ok(found)
    } else {
        Err(NotMeasured::new(format!("`{metric}` is not defined on every resample")))
    }
}

fn variance_of(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    values.iter().map(|it| (it - mean) * (it - mean)).sum::<f64>() / (n - 1.0)
}

#[cfg(test)]
mod tests {
    use karat_core::{
        Document,
        metric::Metric,
        policy::{Gate, Policy},
    };

    use super::variance;
    use crate::{
        parallel::Serial,
        testing::{assert_close, binary, uniforms},
    };

    fn gate() -> Gate {
        let text = "version = 1\n[gate.release]\nn_resamples = 4000\n[[gate.release.rule]]\nmetric = \"brier\"\nmax = 1.0\n";
        let policy = Document::parse("gate.toml", text).and_then(|it| Policy::read(&it));
        policy.expect("valid").gates.into_values().next().expect("one gate")
    }

    /// Models of which all rows have one error each: then the seeds' variance is known by hand.
    #[test]
    fn parts_are_those_that_the_data_were_made_with() {
        let n = 500;
        let label = vec![0.0; n];
        // Brier of a constant 0.1·s is (0.1·s)²: 0.01, 0.04, 0.09, whatever the rows are.
        let model = |s: f32| binary(label.clone(), vec![0.1 * s; n]);
        let (a, b, c) = (model(1.0), model(2.0), model(3.0));
        let found =
            variance(&gate(), vec![&a, &b, &c], None, &Serial).expect("seeds").expect("measured");
        assert_eq!((found.n_seeds, found.metric), (3, Metric::Brier));
        assert!(found.item < 1e-18, "{found:?}");
        // Values .01 .04 .09: mean .14/3, sample variance (.0098 − .0196/3)/2.
        let by_hand = (0.0098 - 0.0196 / 3.0) / 2.0 / 3.0;
        assert_close(found.seed, by_hand, 1e-5);
        assert_close(found.joint, by_hand, 0.06);
        assert_eq!(found.n_seeds_baseline, None);
        // Two recipes: their seeds' variances add up. Values .01 .04 have the variance .00045.
        let both = variance(&gate(), vec![&a, &b, &c], Some(vec![&a, &b]), &Serial);
        let found = both.expect("seeds").expect("measured");
        assert_eq!(found.n_seeds_baseline, Some(2));
        assert_close(found.seed, by_hand + 0.000_45 / 2.0, 1e-5);
        assert_close(found.joint, found.seed, 0.06);
    }

    #[test]
    fn rows_alone_vary_where_all_seeds_agree() {
        let n = 500;
        let label = vec![0.0; n];
        let score = uniforms("seeds/score", n);
        let losses: Vec<f64> = score.iter().map(|it| f64::from(*it) * f64::from(*it)).collect();
        let mean = losses.iter().sum::<f64>() / n as f64;
        let squares = losses.iter().map(|it| (it - mean) * (it - mean)).sum::<f64>();
        let by_hand = squares / n as f64 / n as f64;
        let a = binary(label, score);
        let found = variance(&gate(), vec![&a, &a, &a], Some(vec![&a]), &Serial)
            .expect("seeds")
            .expect("measured");
        assert!(found.seed < 1e-18, "{found:?}");
        assert_close(found.item, by_hand, 0.08);
        assert_close(found.joint, found.item, 1e-9);
    }

    #[test]
    fn one_seed_says_nothing_and_other_rows_are_refused() {
        let a = binary(vec![0.0, 1.0], vec![0.1, 0.9]);
        assert!(variance(&gate(), vec![&a], Some(vec![&a, &a]), &Serial).is_none());
        let other = binary(vec![1.0, 1.0], vec![0.1, 0.9]);
        let why = variance(&gate(), vec![&a, &other], None, &Serial)
            .expect("seeds")
            .expect_err("other rows");
        assert!(why.reason.contains("not scored on the same rows"), "{why}");
    }
}
