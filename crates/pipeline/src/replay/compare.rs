//! What differs between two trainings: pure functions of their logs and weights.

use karat_core::{
    FeaturePlan, UpdateRecord,
    replay::{Distance, TensorDifference, UpdateDifference},
    tensors::{Dtype, Tensors, TensorsError, View},
};

/// How two metrics logs compare.
pub(super) struct Course {
    pub(super) first: Option<UpdateDifference>,
    pub(super) weights_between: [Option<u64>; 2],
    pub(super) loss: Distance,
}

/// How two files of weights compare.
pub(super) struct Weights {
    pub(super) n_tensors: u64,
    pub(super) distance: Distance,
    pub(super) tensors: Vec<TensorDifference>,
}

/// Columns that become other numbers, and the label when it does.
pub(super) fn columns(recorded: &FeaturePlan, replayed: &FeaturePlan) -> Vec<String> {
    let mut names = Vec::new();
    let n = recorded.features.len().max(replayed.features.len());
    for i in 0..n {
        let (a, b) = (recorded.features.get(i), replayed.features.get(i));
        if a != b {
            names.extend(a.or(b).map(|it| it.column.clone()));
        }
    }
    if (&recorded.label, &recorded.weight) != (&replayed.label, &replayed.weight) {
        names.push(replayed.label.column().to_owned());
    }
    if recorded.image != replayed.image {
        names.extend(
            recorded.image.as_ref().or(replayed.image.as_ref()).map(|it| it.column.clone()),
        );
    }
    names
}

/// Goes through both logs, update by update.
pub(super) fn compare_updates(recorded: &[UpdateRecord], replayed: &[UpdateRecord]) -> Course {
    let mut course = Course { first: None, weights_between: [None, None], loss: Distance::ZERO };
    for (a, b) in recorded.iter().zip(replayed) {
        course.loss = course.loss.max(distance(a.loss, b.loss, a.loss.abs()));
        if course.first.is_none() {
            course.first = difference(a, b);
        }
        match a.weights.zip(b.weights) {
            Some((a_weights, b_weights)) if a_weights == b_weights => {
                course.weights_between[0] = Some(a.update);
            }
            Some(_) if course.weights_between[1].is_none() => {
                course.weights_between[1] = Some(a.update);
            }
            Some(_) | None => {}
        }
    }
    let n = [recorded.len(), replayed.len()];
    if course.first.is_none() && n[0] != n[1] {
        let end = |n: usize| format!("{n} updates");
        course.first = Some(UpdateDifference {
            update: n[0].min(n[1]) as u64 + 1,
            what: "end".to_owned(),
            recorded: end(n[0]),
            replayed: end(n[1]),
        });
    }
    course
}

fn difference(a: &UpdateRecord, b: &UpdateRecord) -> Option<UpdateDifference> {
    let weights = |it: &UpdateRecord| it.weights.map_or_else(String::new, |it| it.short());
    let with = |what: &str, recorded: String, replayed: String| {
        let (update, what) = (a.update, what.to_owned());
        Some(UpdateDifference { update, what, recorded, replayed })
    };
    // In the order in which an update comes to them.
    if a.n_rows != b.n_rows {
        return with("n_rows", a.n_rows.to_string(), b.n_rows.to_string());
    }
    for (what, a, b) in [
        ("loss", a.loss, b.loss),
        ("gradient_norm", a.gradient_norm, b.gradient_norm),
        ("learning_rate", a.learning_rate, b.learning_rate),
    ] {
        // A log has one word for all that is not finite.
        if a.to_bits() != b.to_bits() && (a.is_finite() || b.is_finite()) {
            return with(what, a.to_string(), b.to_string());
        }
    }
    // A record older than these digests has none.
    match a.weights.zip(b.weights) {
        Some((x, y)) if x != y => with("weights", weights(a), weights(b)),
        Some(_) | None => None,
    }
}

/// Compares two files of weights, tensor by tensor.
pub(super) fn compare_weights(recorded: &[u8], replayed: &[u8]) -> Result<Weights, TensorsError> {
    let (recorded, replayed) = (Tensors::parse(recorded)?, Tensors::parse(replayed)?);
    let mut weights = Weights { n_tensors: 0, distance: Distance::ZERO, tensors: Vec::new() };
    for (name, a) in recorded.iter() {
        weights.n_tensors += 1;
        let found = match replayed.get(name) {
            Some(b) if a == b => continue,
            Some(b) => tensor(name, a, b),
            None => apart(name, a),
        };
        weights.distance = weights.distance.max(found.distance);
        weights.tensors.push(found);
    }
    for (name, view) in replayed.iter().filter(|(name, _)| recorded.get(name).is_none()) {
        weights.distance = Distance::UNKNOWN;
        weights.tensors.push(apart(name, view));
    }
    Ok(weights)
}

/// A tensor without a counterpart of its shape and type.
fn apart(name: &str, view: &View<'_>) -> TensorDifference {
    TensorDifference {
        name: name.to_owned(),
        distance: Distance::UNKNOWN,
        index: 0,
        n_different: view.shape.iter().product::<usize>() as u64,
    }
}

fn tensor(name: &str, a: &View<'_>, b: &View<'_>) -> TensorDifference {
    let (Some(x), Some(y)) = (elements(a), elements(b)) else { return apart(name, a) };
    if a.shape != b.shape {
        return apart(name, a);
    }
    let scale = x.iter().fold(0.0_f64, |largest, it| largest.max(it.abs()));
    let mut found = TensorDifference {
        name: name.to_owned(),
        distance: Distance::ZERO,
        index: 0,
        n_different: 0,
    };
    let mut largest = 0.0;
    for (i, (x, y)) in (0_u64..).zip(x.iter().zip(&y)) {
        if x.to_bits() == y.to_bits() {
            continue;
        }
        found.n_different += 1;
        found.distance = found.distance.max(distance(*x, *y, scale));
        let apart = (x - y).abs();
        // The first one that has no size is the largest there is.
        if largest < apart || (apart.is_nan() && !f64::is_nan(largest)) {
            (largest, found.index) = (apart, i);
        }
    }
    found
}

/// One number against another. Equal ones are not apart, whatever the scale; both not finite count as equal.
fn distance(a: f64, b: f64, scale: f64) -> Distance {
    if a.to_bits() == b.to_bits() || (!a.is_finite() && !b.is_finite()) {
        return Distance::ZERO;
    }
    let absolute = (a - b).abs();
    let known = |x: f64| x.is_finite().then_some(x);
    // +0 and −0 are other bits and no distance.
    let relative = if absolute.to_bits() == 0 { 0.0 } else { absolute / scale };
    Distance { absolute: known(absolute), relative: known(relative) }
}

fn elements(view: &View<'_>) -> Option<Vec<f64>> {
    match view.dtype {
        Dtype::F64 => {
            let (words, _) = view.bytes.as_chunks::<8>();
            Some(words.iter().map(|word| f64::from_le_bytes(*word)).collect())
        }
        _ => Some(view.to_f32()?.into_iter().map(f64::from).collect()),
    }
}

#[cfg(test)]
mod tests {
    use karat_core::{
        ColumnType, Digest, Feature, FeaturePlan, ImagePlan, LabelPlan, UpdateRecord,
        plan::Encoding, replay::Distance, tensors::Writer,
    };

    use super::{columns, compare_updates, compare_weights};

    fn log(n: u64) -> Vec<UpdateRecord> {
        let record = |update: u64| UpdateRecord {
            update,
            loss: 1.0 / update as f64,
            learning_rate: 0.1,
            gradient_norm: 2.0,
            n_rows: 8,
            weights: update.is_power_of_two().then(|| Digest::of(&update.to_le_bytes())),
        };
        (1..=n).map(record).collect()
    }

    #[test]
    fn the_first_differing_update_is_named_with_both_values() {
        let course = compare_updates(&log(9), &log(9));
        assert!(course.first.is_none());
        assert_eq!((course.weights_between, course.loss), ([Some(8), None], Distance::ZERO));

        let mut other = log(9);
        other[4].loss = f64::from_bits(other[4].loss.to_bits() + 1);
        other[6].loss *= 1.5;
        other[7].weights = Some(Digest::of(b"other"));
        let course = compare_updates(&log(9), &other);
        let first = course.first.expect("differs");
        assert_eq!((first.update, first.what.as_str()), (5, "loss"));
        assert_eq!(
            (first.recorded.as_str(), first.replayed.as_str()),
            ("0.2", "0.20000000000000004")
        );
        assert_eq!(course.weights_between, [Some(4), Some(8)]);
        assert!(course.loss.is_within(0.5000001) && !course.loss.is_within(0.4999));
    }

    #[test]
    fn weights_may_differ_before_the_loss_does_and_a_log_may_end_early() {
        let mut other = log(4);
        other[1].weights = Some(Digest::of(b"other"));
        let first = compare_updates(&log(4), &other).first.expect("differs");
        assert_eq!((first.update, first.what.as_str()), (2, "weights"));

        let first = compare_updates(&log(4), &log(3)).first.expect("differs");
        assert_eq!((first.update, first.what.as_str()), (4, "end"));

        // A record without digests of weights says nothing about them.
        let mut old = log(4);
        old.iter_mut().for_each(|it| it.weights = None);
        let course = compare_updates(&old, &log(4));
        assert!(course.first.is_none() && course.weights_between == [None, None]);
    }

    #[test]
    fn skipped_updates_are_equal_and_a_loss_that_is_finite_once_is_not() {
        let mut a = log(3);
        a[1].loss = f64::NAN;
        let mut b = a.clone();
        b[1].loss = f64::INFINITY;
        assert!(compare_updates(&a, &b).first.is_none());
        let course = compare_updates(&a, &log(3));
        assert_eq!(course.first.expect("differs").update, 2);
        assert_eq!(course.loss, Distance::UNKNOWN);
    }

    #[test]
    fn columns_that_become_other_numbers_are_named() {
        let plan = |mean: f64, price: f64, grey: f64| FeaturePlan {
            features: vec![Feature {
                column: "x".to_owned(),
                ty: ColumnType::Float,
                encoding: Encoding::Numeric { mean, std: 1.0, missing_flag: false },
            }],
            label: LabelPlan::Regression { column: "y".to_owned(), mean: price, std: 1.0 },
            weight: None,
            image: Some(ImagePlan {
                column: "picture".to_owned(),
                channels: 1,
                height: 2,
                width: 2,
                mean: vec![grey],
                std: vec![1.0],
            }),
        };
        let found = |a: FeaturePlan, b: FeaturePlan| columns(&a, &b);
        assert!(found(plan(0.0, 0.0, 0.5), plan(0.0, 0.0, 0.5)).is_empty());
        assert_eq!(found(plan(0.0, 0.0, 0.5), plan(0.1, 0.0, 0.5)), ["x"]);
        assert_eq!(found(plan(0.0, 0.0, 0.5), plan(0.0, 0.1, 0.5)), ["y"]);
        assert_eq!(found(plan(0.0, 0.0, 0.5), plan(0.1, 0.0, 0.6)), ["x", "picture"]);
        let bare = FeaturePlan { features: Vec::new(), image: None, ..plan(0.0, 0.0, 0.5) };
        assert_eq!(found(plan(0.0, 0.0, 0.5), bare), ["x", "picture"]);
    }

    fn file(tensors: &[(&str, &[f32])]) -> Vec<u8> {
        let mut writer = Writer::new();
        for (name, elements) in tensors {
            writer.add_f32(*name, &[elements.len()], elements);
        }
        writer.finish()
    }

    #[test]
    fn tensors_that_differ_are_named_with_their_largest_difference() {
        let a = file(&[("a", &[1.0, -4.0]), ("b", &[2.0]), ("c", &[0.0])]);
        let b = file(&[("a", &[1.5, -3.0]), ("b", &[2.0]), ("c", &[-0.0])]);
        let found = compare_weights(&a, &b).expect("parses");
        assert_eq!(found.n_tensors, 3);
        assert_eq!(found.distance, Distance { absolute: Some(1.0), relative: Some(0.25) });
        let names: Vec<&str> = found.tensors.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!((found.tensors[0].index, found.tensors[0].n_different), (1, 2));
        assert_eq!(found.tensors[1].distance, Distance::ZERO, "other bits, no distance");
    }

    #[test]
    fn what_has_no_counterpart_is_infinitely_far() {
        let a = file(&[("a", &[1.0]), ("b", &[1.0])]);
        for other in [
            file(&[("a", &[1.0])]),
            file(&[("a", &[1.0]), ("b", &[1.0, 1.0])]),
            file(&[("a", &[1.0]), ("b", &[f32::NAN])]),
            file(&[("a", &[1.0]), ("b", &[1.0]), ("c", &[1.0])]),
        ] {
            let found = compare_weights(&a, &other).expect("parses");
            assert_eq!((found.distance, found.tensors.len()), (Distance::UNKNOWN, 1));
        }
    }
}
