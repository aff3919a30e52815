//! The closing screen of `replay`: the answer first; where bits differ, since when, by how much, and what else is not the
//! same.

use karat_core::{
    Likeness, Replay,
    replay::{Distance, TensorDifference},
    thousands,
};
use karat_pipeline::Replayed;

use super::{Paint, table::TextTable};

/// Tensors shown; the record has all.
const TENSORS_SHOWN: usize = 12;

/// The screen.
pub(crate) fn render(replayed: &Replayed, paint: Paint) -> String {
    let replay = &replayed.replay;
    let mut lines = vec![String::new(), answer(replay, paint)];
    let unknown = || "a machine that its record does not name".to_owned();
    lines.push(format!(
        "recorded  {} on {}",
        replay.run,
        replay.recorded_on.as_ref().map_or_else(unknown, |it| it.device_text())
    ));
    lines.push(format!("replayed  {} on {}", replayed.run, replay.replayed_on.device_text()));
    if replay.likeness == Likeness::Identical {
        return lines.join("\n");
    }
    if replay.columns.is_empty() {
        lines.push(format!("loss      {}", far(replay.loss, "of the recorded loss")));
        lines.push(format!("weights   {}", far(replay.weights, "of a tensor's largest number")));
        lines.extend(since(replay));
        lines.extend(tensors(&replay.tensors));
    } else {
        lines.push(format!("columns   {}", replay.columns.join(", ")));
    }
    let others = replay.recorded_on.as_ref().map(|it| it.differences(&replay.replayed_on));
    for (what, then, now) in others.unwrap_or_default() {
        lines.push(paint.dim(&format!("{what}: {then} in the record, {now} now")));
    }
    lines.join("\n")
}

fn answer(replay: &Replay, paint: Paint) -> String {
    let words = replay.likeness.words();
    let subject = paint.bold(&replay.subject);
    let n_updates = thousands(replay.n_updates[0]);
    let answer = match replay.likeness {
        Likeness::Identical => {
            return format!(
                "{}: {subject}: all {n_updates} updates, {} tensors and {} numbers have the same bits",
                paint.green(words),
                replay.n_tensors,
                thousands(replay.n_parameters)
            );
        }
        Likeness::WithinTolerance => paint.yellow(words),
        Likeness::Different => paint.red(words),
    };
    let Some(first) = &replay.first else {
        return match replay.columns.is_empty() {
            true => format!(
                "{answer}: {subject}: all {n_updates} updates agree, the final weights do not"
            ),
            false => format!(
                "{answer}: {subject}: the training split gives other numbers than the record has; nothing was trained"
            ),
        };
    };
    format!(
        "{answer}: {subject}: update {} of {n_updates} is the first that differs: {} {} in the record, {} now",
        thousands(first.update),
        first.what,
        first.recorded,
        first.replayed
    )
}

fn far(distance: Distance, of: &str) -> String {
    match (distance.absolute, distance.relative) {
        (Some(absolute), Some(relative)) => {
            format!("at most {absolute:.3e} apart, {relative:.3e} {of}")
        }
        (Some(absolute), None) => format!("at most {absolute:.3e} apart"),
        (None, _) => "cannot be compared: a number has no finite counterpart".to_owned(),
    }
}

/// What the digests in the log say.
fn since(replay: &Replay) -> Option<String> {
    let update = |it: u64| thousands(it);
    match replay.weights_between.map(|it| it.map(update)) {
        [Some(same), Some(other)] => Some(format!(
            "digests   weights are the same after update {same}, others after {other}"
        )),
        [None, Some(other)] => Some(format!("digests   weights are others after update {other}")),
        [Some(same), None] => Some(format!("digests   weights are the same after update {same}")),
        [None, None] => None,
    }
}

fn tensors(tensors: &[TensorDifference]) -> Vec<String> {
    if tensors.is_empty() {
        return Vec::new();
    }
    let mut table =
        TextTable::new(&["tensor", "numbers that differ", "largest difference", "relative", "at"]);
    let number = |it: Option<f64>| it.map_or_else(|| "-".to_owned(), |it| format!("{it:.3e}"));
    for it in tensors.iter().take(TENSORS_SHOWN) {
        table.row(vec![
            it.name.clone(),
            thousands(it.n_different),
            number(it.distance.absolute),
            number(it.distance.relative),
            it.index.to_string(),
        ]);
    }
    let mut lines = vec![String::new()];
    lines.extend(table.lines());
    if TENSORS_SHOWN < tensors.len() {
        lines.push(format!("and {} more", tensors.len() - TENSORS_SHOWN));
    }
    lines
}
