//! `gate.toml` as typed, and everything that is refused in it.
//!
//! Reading order: [`policy`], `raw` (the keys), `bound` and `slices` (one rule), `contradiction` (rules among themselves).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Adaptivity, Anchor, BaselineRef, Budget, Gate, OperationalRule, Policy, RESAMPLES_DEFAULT,
    RESAMPLES_MAX, RESAMPLES_MIN, RULES_MAX, Rule, Signatures, USES_MAX, USES_MAX_FULL, Waiver,
};
use crate::{Digest, Document, Failure, ModelRef, Name, Which, thousands};
use raw::{
    RawBudget, RawGate, RawInconclusive, RawMode, RawPolicy, RawRule, RawSeverity, RawSignatures,
    RawWaiver, RawWithoutBaseline, Subject,
};

mod bound;
mod contradiction;
mod raw;
mod slices;

/// Keys whose signature may be asked for.
const KEYS_MAX: usize = 32;
/// Characters a rule's name may have: it stands in tables, file names of test reports and waivers.
const RULE_NAME_LEN_MAX: usize = 120;

/// The public entry: [`Policy::read`].
pub(super) fn policy(document: &Document) -> Result<Policy, Failure> {
    let raw: RawPolicy = document.read()?;
    if raw.version != 1 {
        return Err(
            document.refuse("version", format!("`version` is {}, this build reads 1", raw.version))
        );
    }
    let mut notes = Vec::new();
    let mut gates = BTreeMap::new();
    for (text, raw) in raw.gate {
        let key = format!("gate.{text}");
        let name: Name =
            text.parse().map_err(|error| document.refuse(&key, format!("`{key}`: {error}")))?;
        gates.insert(name.clone(), gate(document, &key, name, raw, &mut notes)?);
    }
    let meaning = serde_json::to_vec(&gates).expect("gates are plain strings and finite numbers");
    Ok(Policy { gates, digest: Digest::of(&meaning), notes })
}

fn gate(
    document: &Document,
    key: &str,
    name: Name,
    raw: RawGate,
    notes: &mut Vec<String>,
) -> Result<Gate, Failure> {
    let number = |field: &str, value: f64, min: f64, max: f64| {
        let key = format!("{key}.{field}");
        if min <= value && value <= max {
            return Ok(value);
        }
        Err(document.refuse(&key, format!("`{key}` is {value}, must be between {min} and {max}")))
    };
    let baseline = baseline(document, &format!("{key}.baseline"), raw.baseline.as_deref())?;
    let anchor = raw.anchor.as_deref();
    let anchor =
        anchor.map(|it| self::anchor(document, &format!("{key}.anchor"), it)).transpose()?;
    let reliability = number("reliability", raw.reliability.unwrap_or(0.95), 0.5, 0.9999)?;
    let power = number("power", raw.power.unwrap_or(0.8), 0.5, 0.9999)?;
    let budget = raw.budget.map(|it| self::budget(document, key, &it)).transpose()?;
    let n_resamples = n_resamples(document, key, raw.n_resamples, reliability, budget)?;
    let signatures = raw.signatures.map(|it| self::signatures(document, key, it)).transpose()?;
    let inconclusive_is_allowed =
        inconclusive_is_allowed(document, key, raw.inconclusive, raw.mode, notes)?;
    if RULES_MAX < raw.rule.len() {
        return Err(document.refuse(
            &format!("{key}.rule"),
            format!("`{key}` has {} rules, at most {RULES_MAX} are read", raw.rule.len()),
        ));
    }
    let (mut rules, mut operational): (Vec<Rule>, Vec<OperationalRule>) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    let mut contradictions = contradiction::Claims::default();
    for (at, raw) in raw.rule.into_iter().enumerate() {
        let key = format!("{key}.rule.{at}");
        let rule = rule(document, &key, raw, notes)?;
        if !names.insert(rule.name().to_owned()) {
            return Err(document.refuse(
                &key,
                format!(
                    "two rules are called `{}`: waivers and reports need names that differ",
                    rule.name()
                ),
            ));
        }
        contradictions.add(&rule).map_err(|why| document.refuse(&key, why))?;
        match rule {
            Either::Answers(rule) => {
                if rule.bound.is_change() && baseline == BaselineRef::None {
                    return Err(document.refuse(
                        &key,
                        format!(
                            "rule `{}` compares with a baseline, and the gate says `baseline = \"none\"`",
                            rule.name
                        ),
                    ));
                }
                rules.push(rule);
            }
            Either::Operational(rule) => operational.push(rule),
        }
    }
    let mut waivers = Vec::with_capacity(raw.waiver.len());
    for (at, raw) in raw.waiver.into_iter().enumerate() {
        waivers.push(waiver(document, &format!("{key}.waiver.{at}"), &names, raw)?);
    }
    Ok(Gate {
        name,
        model: raw.model,
        split: raw.split,
        baseline,
        anchor,
        reliability,
        budget,
        signatures,
        power,
        inconclusive_is_allowed,
        unbaselined_is_allowed: raw.without_baseline == RawWithoutBaseline::AbsoluteRulesOnly,
        n_resamples,
        rules,
        operational,
        waivers,
    })
}

fn baseline(document: &Document, key: &str, text: Option<&str>) -> Result<BaselineRef, Failure> {
    let refuse = || {
        let asked: String = text.unwrap_or_default().chars().take(80).collect();
        document.refuse(
            key,
            format!(
                "`{key}` is `{asked}`, must be an alias `@champion`, a version `@7` of the judged model, `naive` or \
                 `none`"
            ),
        )
    };
    match text.unwrap_or("@champion") {
        "naive" => Ok(BaselineRef::Naive),
        "none" => Ok(BaselineRef::None),
        other => {
            let which = other.strip_prefix('@').ok_or_else(refuse)?;
            if which.bytes().all(|byte| byte.is_ascii_digit()) {
                let version = which.parse().ok().filter(|it| 0 < *it).ok_or_else(refuse)?;
                return Ok(BaselineRef::Version(version));
            }
            which.parse().map(BaselineRef::Alias).map_err(|_| refuse())
        }
    }
}

/// A version, never an alias: an anchor that moves holds nothing.
fn anchor(document: &Document, key: &str, text: &str) -> Result<Anchor, Failure> {
    match text.parse() {
        Ok(ModelRef { model, which: Which::Version(version) }) => Ok(Anchor { model, version }),
        _ => {
            let asked: String = text.chars().take(80).collect();
            Err(document.refuse(
                key,
                format!(
                    "`{key}` is `{asked}`, must be one version of a model as in `flights@3`: an anchor that moves with \
                     an alias holds nothing"
                ),
            ))
        }
    }
}

fn budget(document: &Document, key: &str, raw: &RawBudget) -> Result<Budget, Failure> {
    let max = if raw.adaptivity == Adaptivity::Full { USES_MAX_FULL } else { USES_MAX };
    if !(1..=max).contains(&raw.uses) {
        let key = format!("{key}.budget.uses");
        return Err(document.refuse(
            &key,
            format!("`{key}` is {}, must be between 1 and {}", raw.uses, thousands(max.into())),
        ));
    }
    Ok(Budget { uses: raw.uses, adaptivity: raw.adaptivity, reveal: raw.reveal })
}

/// One draw beyond the interval's end, or the end is the largest draw whatever the data say. Where the gate does not say
/// how many, ten.
fn n_resamples(
    document: &Document,
    key: &str,
    asked: Option<u32>,
    reliability: f64,
    budget: Option<Budget>,
) -> Result<u32, Failure> {
    let each = budget.map_or(reliability, |it| it.reliability(reliability));
    // Rounded first: 1 / (1 − 0.95) is a hair above 20.
    let needed = (1.0 / (1.0 - each) - 1e-6).ceil();
    if f64::from(RESAMPLES_MAX) < needed {
        return Err(document.refuse(
            &format!("{key}.budget.uses"),
            format!(
                "the budget leaves each verdict an α of {:.1e}, which takes {} resamples, and at most {} are drawn: \
                 fewer uses, or another adaptivity",
                1.0 - each,
                thousands(needed as u64),
                thousands(RESAMPLES_MAX.into())
            ),
        ));
    }
    let needed = RESAMPLES_MIN.max(needed as u32 - 1);
    let Some(asked) = asked else {
        return Ok(RESAMPLES_DEFAULT.max(needed.saturating_mul(10)).min(RESAMPLES_MAX));
    };
    if (needed..=RESAMPLES_MAX).contains(&asked) {
        return Ok(asked);
    }
    let key = format!("{key}.n_resamples");
    Err(document.refuse(
        &key,
        format!(
            "`{key}` is {}, must be between {} and {}",
            thousands(asked.into()),
            thousands(needed.into()),
            thousands(RESAMPLES_MAX.into())
        ),
    ))
}

fn signatures(document: &Document, key: &str, raw: RawSignatures) -> Result<Signatures, Failure> {
    let key = format!("{key}.signatures.keys");
    if raw.keys.is_empty() || KEYS_MAX < raw.keys.len() {
        return Err(document.refuse(
            &key,
            format!("`keys` names {}, must be 1 to {KEYS_MAX} PEM files", raw.keys.len()),
        ));
    }
    for path in &raw.keys {
        let leaves = path.split(['/', '\\']).any(|part| part == "..");
        if path.is_empty() || path.starts_with(['/', '\\']) || path.contains(['\0', ':']) || leaves
        {
            let asked: String = path.chars().take(80).collect();
            return Err(document.refuse(
                &key,
                format!("`{asked}` is not a file inside the project, as `keys/release.pub` is"),
            ));
        }
    }
    Ok(Signatures { keys: raw.keys })
}

fn inconclusive_is_allowed(
    document: &Document,
    key: &str,
    ours: Option<RawInconclusive>,
    mode: Option<RawMode>,
    notes: &mut Vec<String>,
) -> Result<bool, Failure> {
    let Some(mode) = mode else { return Ok(ours == Some(RawInconclusive::Allow)) };
    let key = format!("{key}.mode");
    if ours.is_some() {
        return Err(document.refuse(&key, "the gate has `inconclusive` and `mode`, must have one"));
    }
    let (word, meaning) = match mode {
        RawMode::FpFree => ("fp-free", "block"),
        RawMode::FnFree => ("fn-free", "allow"),
    };
    let place = document.place(&key).unwrap_or_else(|| document.name.clone());
    notes.push(format!(
        "{place}: ease.ml/ci's `mode = \"{word}\"` is read as `inconclusive = \"{meaning}\"`"
    ));
    Ok(mode == RawMode::FnFree)
}

/// A rule of one of the two kinds.
enum Either {
    Answers(Rule),
    Operational(OperationalRule),
}

impl Either {
    fn name(&self) -> &str {
        match self {
            Self::Answers(rule) => &rule.name,
            Self::Operational(rule) => &rule.name,
        }
    }
}

fn rule(
    document: &Document,
    key: &str,
    raw: RawRule,
    notes: &mut Vec<String>,
) -> Result<Either, Failure> {
    let bound = bound::bound(document, key, &raw, notes)?;
    let name = raw.name.clone().unwrap_or_else(|| match raw.metric {
        Subject::Measure(measure) if measure.is_yes_or_no() => measure.to_string(),
        subject => format!("{subject} {bound}"),
    });
    let is_plain = |c: char| !c.is_control();
    if name.trim().is_empty()
        || RULE_NAME_LEN_MAX < name.chars().count()
        || !name.chars().all(is_plain)
    {
        return Err(document.refuse(
            &format!("{key}.name"),
            format!("`name` must be 1 to {RULE_NAME_LEN_MAX} characters on one line"),
        ));
    }
    // A leak alarm is a reason to look, not to block: it warns unless the rule says otherwise.
    let severity = raw.severity.unwrap_or(match bound {
        super::Bound::MaxImprovement(_) => RawSeverity::Warn,
        _ => RawSeverity::Error,
    });
    let warns_only = severity == RawSeverity::Warn;
    match raw.metric {
        Subject::Metric(metric) => Ok(Either::Answers(Rule {
            name,
            metric,
            slices: slices::slices(document, key, raw.slice.as_deref(), raw.slices.as_deref())?,
            bound,
            n_rows_min: raw.n_rows_min.unwrap_or(0),
            correction: raw.correction.unwrap_or_default(),
            warns_only,
        })),
        Subject::Measure(measure) => {
            let about_rows = [
                ("slice", raw.slice.is_some()),
                ("slices", raw.slices.is_some()),
                ("n_rows_min", raw.n_rows_min.is_some()),
                ("correction", raw.correction.is_some()),
            ];
            if let Some((field, _)) = about_rows.into_iter().find(|(_, is_given)| *is_given) {
                return Err(document.refuse(
                    &format!("{key}.{field}"),
                    format!("`{measure}` is one value of the whole model, it has no `{field}`"),
                ));
            }
            Ok(Either::Operational(OperationalRule { name, measure, bound, warns_only }))
        }
    }
}

fn waiver(
    document: &Document,
    key: &str,
    known: &BTreeSet<String>,
    raw: RawWaiver,
) -> Result<Waiver, Failure> {
    if !known.contains(&raw.rule) {
        return Err(document.refuse(
            &format!("{key}.rule"),
            format!(
                "no rule is called `{}`: the nearest are `{}`",
                raw.rule,
                crate::nearest(&raw.rule, known.iter().map(String::as_str)).join("`, `")
            ),
        ));
    }
    for (field, text) in [("by", &raw.by), ("reason", &raw.reason)] {
        if text.trim().is_empty() {
            return Err(document.refuse(
                &format!("{key}.{field}"),
                format!("`{field}` is empty: a waiver says who and why"),
            ));
        }
    }
    Ok(Waiver { rule: raw.rule, until: raw.until.0, by: raw.by, reason: raw.reason })
}

#[cfg(test)]
mod tests;
