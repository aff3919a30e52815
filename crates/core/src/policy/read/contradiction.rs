//! Rules that cannot both hold: whoever wrote them meant something else.

use super::{
    super::{Bound, Change, SliceRef},
    Either,
};

/// What rules have claimed so far, one for each slice.
#[derive(Default)]
pub(super) struct Claims(Vec<Claim>);

struct Claim {
    rule: String,
    /// Metric or measure.
    subject: String,
    /// None for a measure.
    slice: Option<SliceRef>,
    bound: Bound,
}

impl Claims {
    /// Adds a rule, or says with which earlier one it cannot hold. A rule that only warns contradicts nothing.
    pub(super) fn add(&mut self, rule: &Either) -> Result<(), String> {
        let claims: Vec<Claim> = match rule {
            Either::Answers(rule) if !rule.warns_only || is_alarm(rule.bound) => rule
                .slices
                .iter()
                .map(|slice| Claim {
                    rule: rule.name.clone(),
                    subject: rule.metric.to_string(),
                    slice: Some(slice.clone()),
                    bound: rule.bound,
                })
                .collect(),
            Either::Operational(rule) if !rule.warns_only => vec![Claim {
                rule: rule.name.clone(),
                subject: rule.measure.to_string(),
                slice: None,
                bound: rule.bound,
            }],
            _ => return Ok(()),
        };
        for new in claims {
            let is_about = |it: &&Claim| it.subject == new.subject && it.slice == new.slice;
            if let Some(old) =
                self.0.iter().filter(is_about).find(|it| excludes(it.bound, new.bound))
            {
                let of =
                    new.slice.as_ref().map_or_else(String::new, |it| format!(" on slice {it}"));
                return Err(format!(
                    "rule `{}` wants `{}`{of} {}, and rule `{}` {}: no model can meet both",
                    new.rule, new.subject, new.bound, old.rule, old.bound
                ));
            }
            self.0.push(new);
        }
        Ok(())
    }
}

/// An alarm warns by default, and "at least this much better" beyond it would always sound it.
fn is_alarm(bound: Bound) -> bool {
    matches!(bound, Bound::MaxImprovement(_))
}

fn excludes(a: Bound, b: Bound) -> bool {
    let beyond = |least: Change, most: Change| match (least, most) {
        (Change::Absolute(least), Change::Absolute(most))
        | (Change::Relative(least), Change::Relative(most)) => most < least,
        // In different units only the data can tell.
        _ => false,
    };
    match (a, b) {
        (Bound::Min(min), Bound::Max(max)) | (Bound::Max(max), Bound::Min(min)) => max < min,
        (Bound::MinImprovement(least), Bound::MaxImprovement(most))
        | (Bound::MaxImprovement(most), Bound::MinImprovement(least)) => beyond(least, most),
        _ => false,
    }
}
