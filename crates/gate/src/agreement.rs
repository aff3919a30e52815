//! Whether people agree on labels, what the labels probably are, and how many are probably wrong.
//!
//! Sources: Fleiss 1971; Krippendorff 2004, chapter 11 (coincidences); Dawid and Skene 1979; Northcutt, Jiang, Chuang 2021
//! (confident learning). Golden values: docs/design/009-gate-statistics.md.

/// Fleiss's κ of a table items × classes of how many people chose each class; every item has the same number of people.
#[must_use]
pub fn fleiss_kappa(table: &[Vec<u32>]) -> f64 {
    let items = table.len() as f64;
    let people = table.first().map_or(0, |it| it.iter().sum::<u32>());
    let people = f64::from(people);
    let n_classes = table.first().map_or(0, Vec::len);
    let by_chance: f64 = (0..n_classes)
        .map(|class| table.iter().map(|it| f64::from(it[class])).sum::<f64>() / (items * people))
        .map(|share| share * share)
        .sum();
    let agree = |item: &Vec<u32>| {
        let squares: f64 = item.iter().map(|it| f64::from(*it) * f64::from(*it)).sum();
        (squares - people) / (people * (people - 1.0))
    };
    let observed = table.iter().map(agree).sum::<f64>() / items;
    (observed - by_chance) / (1.0 - by_chance)
}

/// What a difference between two labels means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Names: equal or not.
    Nominal,
    /// Ranks: how many labels lie between.
    Ordinal,
    /// Numbers: the squared difference.
    Interval,
    /// Numbers with a zero: the difference as a share of the sum.
    Ratio,
}

/// Krippendorff's α: 1 − (n − 1) Σ o δ² / Σ n_c n_k δ². `units` are the labels each item was given, any number of them; items with one
/// label say nothing. 1: all agree; 0: as by chance. NaN without a pair.
#[must_use]
pub fn krippendorff_alpha(units: &[Vec<f64>], level: Level) -> f64 {
    let paired: Vec<&Vec<f64>> = units.iter().filter(|it| 2 <= it.len()).collect();
    let mut values: Vec<f64> = paired.iter().flat_map(|it| it.iter().copied()).collect();
    values.sort_by(f64::total_cmp);
    values.dedup_by(|a, b| a.total_cmp(b).is_eq());
    let place = |value: f64| values.partition_point(|it| it.total_cmp(&value).is_lt());
    let n_values = values.len();
    let mut together = vec![vec![0.0; n_values]; n_values];
    for unit in paired {
        for (i, a) in unit.iter().enumerate() {
            for (_, b) in unit.iter().enumerate().filter(|(j, _)| i != *j) {
                together[place(*a)][place(*b)] += 1.0 / (unit.len() as f64 - 1.0);
            }
        }
    }
    let count: Vec<f64> = together.iter().map(|it| it.iter().sum()).collect();
    let n: f64 = count.iter().sum();
    let square = |a: usize, b: usize| {
        let gap = match level {
            Level::Nominal => f64::from(u8::from(a != b)),
            Level::Ordinal => {
                count[a.min(b)..=a.max(b)].iter().sum::<f64>() - 0.5 * (count[a] + count[b])
            }
            Level::Interval => values[a] - values[b],
            Level::Ratio if a == b => 0.0,
            Level::Ratio => (values[a] - values[b]) / (values[a] + values[b]),
        };
        gap * gap
    };
    let (mut observed, mut expected) = (0.0, 0.0);
    for a in 0..n_values {
        for b in 0..n_values {
            observed += together[a][b] * square(a, b);
            expected += count[a] * count[b] * square(a, b);
        }
    }
    if n_values == 1 { 1.0 } else { 1.0 - (n - 1.0) * observed / expected }
}

/// One label by one person: item, person, class.
pub type Label = (usize, usize, usize);

/// What Dawid and Skene's model says.
#[derive(Clone, Debug, PartialEq)]
pub struct DawidSkene {
    /// `[item][class]`: how probable each class is.
    pub truth: Vec<Vec<f64>>,
    /// `[class]`: how frequent.
    pub frequency: Vec<f64>,
    /// `[person][class][label]`: how a person labels items of a class.
    pub confusion: Vec<Vec<Vec<f64>>>,
}

/// Steps of EM at most.
const STEPS_MAX: usize = 200;
/// Labels added to each cell of a person's table: nobody is known to be perfect.
const SMOOTHING: f64 = 0.01;

impl DawidSkene {
    /// Expectation–maximisation from the shares of votes, in the log domain, until the likelihood changes by less than 10⁻⁶ of
    /// itself. Numbers in `labels` must be below the three sizes.
    #[must_use]
    pub fn new(labels: &[Label], n_items: usize, n_people: usize, n_classes: usize) -> Self {
        let mut made = Self {
            truth: vec![vec![0.0; n_classes]; n_items],
            frequency: vec![0.0; n_classes],
            confusion: vec![vec![vec![0.0; n_classes]; n_classes]; n_people],
        };
        for (item, _, class) in labels {
            made.truth[*item][*class] += 1.0;
        }
        made.truth.iter_mut().for_each(|it| scale(it));
        let mut before = f64::NEG_INFINITY;
        for _ in 0..STEPS_MAX {
            made.maximise(labels);
            let likelihood = made.expect(labels);
            if (likelihood - before).abs() < 1e-6 * likelihood.abs() {
                break;
            }
            before = likelihood;
        }
        made
    }

    fn maximise(&mut self, labels: &[Label]) {
        for (class, frequency) in self.frequency.iter_mut().enumerate() {
            *frequency = SMOOTHING + self.truth.iter().map(|it| it[class]).sum::<f64>();
        }
        scale(&mut self.frequency);
        for row in self.confusion.iter_mut().flatten() {
            row.fill(SMOOTHING);
        }
        for (item, person, label) in labels {
            for (class, row) in self.confusion[*person].iter_mut().enumerate() {
                row[*label] += self.truth[*item][class];
            }
        }
        self.confusion.iter_mut().flatten().for_each(|it| scale(it));
    }

    /// The log-likelihood, on the way to the new truth.
    fn expect(&mut self, labels: &[Label]) -> f64 {
        for item in &mut self.truth {
            for (at, frequency) in item.iter_mut().zip(&self.frequency) {
                *at = libm::log(*frequency);
            }
        }
        for (item, person, label) in labels {
            for (at, row) in self.truth[*item].iter_mut().zip(&self.confusion[*person]) {
                *at += libm::log(row[*label]);
            }
        }
        let mut likelihood = 0.0;
        for item in &mut self.truth {
            let most = item.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            item.iter_mut().for_each(|it| *it = libm::exp(*it - most));
            likelihood += most + libm::log(item.iter().sum());
            scale(item);
        }
        likelihood
    }
}

/// Makes it sum to 1; what sums to nothing becomes even.
fn scale(shares: &mut [f64]) {
    let (sum, n) = (shares.iter().sum::<f64>(), shares.len() as f64);
    for share in shares {
        *share = if 0.0 < sum { *share / sum } else { 1.0 / n };
    }
}

/// Confident learning: the joint distribution of given and true labels, `[given][true]`, from probabilities that a model gave to rows
/// it was not trained on. What lies off the diagonal is the estimated share of wrong labels.
///
/// t_j is the mean probability of class j over the rows labelled j; a row counts for the most probable class among those that
/// reach their t, or for none. Rows of the table are scaled to how often each label was given. A class nobody gave never counts.
#[must_use]
pub fn confident_joint(
    given: &[usize],
    probability: &[Vec<f64>],
    n_classes: usize,
) -> Vec<Vec<f64>> {
    let mut count = vec![0.0; n_classes];
    let mut bound = vec![0.0; n_classes];
    for (label, row) in given.iter().zip(probability) {
        count[*label] += 1.0;
        bound[*label] += row[*label];
    }
    let mut joint = vec![vec![0.0; n_classes]; n_classes];
    for (label, row) in given.iter().zip(probability) {
        let reaches =
            |class: &usize| 0.0 < count[*class] && bound[*class] <= row[*class] * count[*class];
        // The first of equals.
        let best =
            (0..n_classes).filter(reaches).reduce(|a, b| if row[a] < row[b] { b } else { a });
        if let Some(best) = best {
            joint[*label][best] += 1.0;
        }
    }
    let n = given.len() as f64;
    for (label, row) in joint.iter_mut().enumerate() {
        let sum: f64 = row.iter().sum();
        if 0.0 < sum {
            row.iter_mut().for_each(|it| *it *= count[label] / (sum * n));
        } else {
            // Nobody reached a bound: what was given stands.
            row[label] = count[label] / n;
        }
    }
    joint
}

#[cfg(test)]
mod tests {
    use karat_core::rng::{Purpose, Stream};

    use super::{DawidSkene, Level, confident_joint, fleiss_kappa, krippendorff_alpha};
    use crate::testing::assert_close;

    #[test]
    fn kappa_is_that_of_the_published_table() {
        let table = [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ];
        let table: Vec<Vec<u32>> = table.iter().map(|it| it.to_vec()).collect();
        assert_close(fleiss_kappa(&table), 0.209_930_704_42, 1e-10);
        assert_close(fleiss_kappa(&[vec![7, 1], vec![3, 5]]), 0.161_904_761_904_762, 1e-12);
        assert_close(fleiss_kappa(&[vec![3, 0], vec![0, 3]]), 1.0, 1e-15);
    }

    /// Krippendorff's three observers and fifteen units; 0 is "not labelled".
    #[test]
    fn alpha_is_that_of_the_standard_example_at_all_levels() {
        let observers = [
            [0, 0, 0, 0, 0, 3, 4, 1, 2, 1, 1, 3, 3, 0, 3],
            [1, 0, 2, 1, 3, 3, 4, 3, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 2, 1, 3, 4, 4, 0, 2, 1, 1, 3, 3, 0, 4],
        ];
        let unit = |at: usize| {
            let labels = observers.iter().map(|it| it[at]).filter(|it| *it != 0);
            labels.map(f64::from).collect::<Vec<_>>()
        };
        let units: Vec<Vec<f64>> = (0..15).map(unit).collect();
        for (level, alpha) in [
            (Level::Nominal, 0.691_358_024_691),
            (Level::Ordinal, 0.806_721_419_941),
            (Level::Interval, 0.810_844_892_812),
            (Level::Ratio, 0.808_943_670_787),
        ] {
            assert_close(krippendorff_alpha(&units, level), alpha, 1e-11);
        }
        assert_close(krippendorff_alpha(&[vec![1.0, 1.0]], Level::Nominal), 1.0, 1e-15);
        assert!(krippendorff_alpha(&[vec![1.0]], Level::Nominal).is_nan());
    }

    /// Two careful people and one who says the opposite: the model finds out who is who, the majority does not matter.
    #[test]
    fn dawid_and_skene_find_who_is_wrong() {
        let stream = Stream::new(5, Purpose::Permute, "people");
        let right = [0.95, 0.9, 0.15];
        let (mut labels, mut truth) = (Vec::new(), Vec::new());
        for item in 0..600_u32 {
            let class = usize::from(stream.uniform(item, 0, 0) < 0.3);
            truth.push(class);
            for (person, right) in right.iter().enumerate() {
                let is_right = f64::from(stream.uniform(item, 1 + person as u32, 0)) < *right;
                labels.push((item as usize, person, if is_right { class } else { 1 - class }));
            }
        }
        let found = DawidSkene::new(&labels, 600, 3, 2);
        assert!((found.frequency[1] - 0.3).abs() < 0.05, "{:?}", found.frequency);
        for (person, right) in right.iter().enumerate() {
            let diagonal = found.confusion[person][0][0];
            assert!((diagonal - right).abs() < 0.06, "{person}: {diagonal}");
        }
        let hits = found.truth.iter().zip(&truth).filter(|(shares, class)| 0.5 < shares[**class]);
        assert!(560 < hits.count());
        // An item that nobody labelled has the frequencies.
        let found = DawidSkene::new(&[(0, 0, 1)], 2, 1, 2);
        assert_close(found.truth[1].iter().sum(), 1.0, 1e-12);
    }

    #[test]
    fn wrong_labels_lie_off_the_diagonal() {
        // By hand: t = (0.7, 0.6); row 2 reaches class 1 only, row 4 no bound.
        let given = [0, 0, 0, 1, 1];
        let probability =
            [[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4]].map(|it| it.to_vec());
        let joint = confident_joint(&given, &probability, 2);
        assert_close(joint[0][0], 0.4, 1e-14);
        assert_close(joint[0][1], 0.2, 1e-14);
        assert_close(joint[1][1], 0.4, 1e-14);
        assert_close(joint[1][0], 0.0, 1e-14);
        // A third class that nobody gave never counts, however probable.
        let wide: Vec<Vec<f64>> = probability.iter().map(|it| vec![it[0], it[1], 0.99]).collect();
        let joint = confident_joint(&given, &wide, 3);
        assert!(joint.iter().all(|row| row[2].abs() < 1e-15), "{joint:?}");
    }
}
