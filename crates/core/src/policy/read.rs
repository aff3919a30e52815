//! `gate.toml` as typed, and everything that is refused in it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, de::Error as _};

use super::{
    BaselineRef, Bound, Change, Correction, Gate, Policy, RESAMPLES_DEFAULT, RESAMPLES_MAX,
    RESAMPLES_MIN, RULE_SLICES_MAX, RULES_MAX, Rule, SliceRef, Waiver,
};
use crate::{Digest, Document, Failure, Name, Timestamp, metric::Metric, thousands};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    version: u32,
    #[serde(default)]
    gate: BTreeMap<String, RawGate>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGate {
    baseline: Option<String>,
    reliability: Option<f64>,
    power: Option<f64>,
    #[serde(default)]
    inconclusive: RawInconclusive,
    #[serde(default)]
    without_baseline: RawWithoutBaseline,
    n_resamples: Option<u32>,
    #[serde(default)]
    rule: Vec<RawRule>,
    #[serde(default)]
    waiver: Vec<RawWaiver>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawInconclusive {
    #[default]
    Block,
    Allow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawWithoutBaseline {
    #[default]
    Fail,
    AbsoluteRulesOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawSeverity {
    Error,
    Warn,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: Option<String>,
    metric: Metric,
    slice: Option<String>,
    slices: Option<Vec<String>>,
    min: Option<f64>,
    max: Option<f64>,
    max_regression: Option<RawChange>,
    min_improvement: Option<RawChange>,
    max_improvement: Option<RawChange>,
    n_rows_min: Option<u64>,
    severity: Option<RawSeverity>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWaiver {
    rule: String,
    until: RawDay,
    by: String,
    reason: String,
}

/// `{ absolute = x }` or `{ relative = x }`, with a message that shows both.
#[derive(Debug)]
struct RawChange(Change);

impl<'de> Deserialize<'de> for RawChange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refuse = || {
            D::Error::custom(
                "expected `{ absolute = 0.005 }` or `{ relative = 0.01 }`, one of both",
            )
        };
        let found = toml::Value::deserialize(deserializer)?;
        let table = found.as_table().filter(|it| it.len() == 1).ok_or_else(refuse)?;
        let (key, value) = table.iter().next().ok_or_else(refuse)?;
        let amount = value
            .as_float()
            .or_else(|| value.as_integer().map(|it| it as f64))
            .ok_or_else(refuse)?;
        match key.as_str() {
            "absolute" => Ok(Self(Change::Absolute(amount))),
            "relative" => Ok(Self(Change::Relative(amount))),
            _ => Err(refuse()),
        }
    }
}

/// A day, with or without quotes.
#[derive(Debug)]
struct RawDay(String);

impl<'de> Deserialize<'de> for RawDay {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match toml::Value::deserialize(deserializer)? {
            toml::Value::Datetime(day) => day.to_string(),
            toml::Value::String(text) => text,
            _ => String::new(),
        };
        if text.len() == "2026-12-31".len() && Timestamp::parse(&text).is_some() {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("expected a day as in 2026-12-31"))
        }
    }
}

/// The public entry: [`Policy::read`].
pub(super) fn policy(document: &Document) -> Result<Policy, Failure> {
    let raw: RawPolicy = document.read()?;
    if raw.version != 1 {
        return Err(
            document.refuse("version", format!("`version` is {}, this build reads 1", raw.version))
        );
    }
    let mut gates = BTreeMap::new();
    for (text, raw) in raw.gate {
        let key = format!("gate.{text}");
        let name: Name =
            text.parse().map_err(|error| document.refuse(&key, format!("`{key}`: {error}")))?;
        gates.insert(name.clone(), gate(document, &key, name, raw)?);
    }
    let meaning = serde_json::to_vec(&gates).expect("gates are plain strings and finite numbers");
    Ok(Policy { gates, digest: Digest::of(&meaning), notes: Vec::new() })
}

fn gate(document: &Document, key: &str, name: Name, raw: RawGate) -> Result<Gate, Failure> {
    let number = |field: &str, value: f64, min: f64, max: f64| {
        let key = format!("{key}.{field}");
        if min <= value && value <= max {
            return Ok(value);
        }
        Err(document.refuse(&key, format!("`{key}` is {value}, must be between {min} and {max}")))
    };
    let baseline = baseline(document, &format!("{key}.baseline"), raw.baseline.as_deref())?;
    let reliability = number("reliability", raw.reliability.unwrap_or(0.95), 0.5, 0.9999)?;
    let power = number("power", raw.power.unwrap_or(0.8), 0.5, 0.9999)?;
    let n_resamples = raw.n_resamples.unwrap_or(RESAMPLES_DEFAULT);
    // One draw beyond the interval's end, or the end is the largest draw whatever the data say.
    let needed = (1.0 / (1.0 - reliability)).ceil();
    if !(RESAMPLES_MIN..=RESAMPLES_MAX).contains(&n_resamples)
        || f64::from(n_resamples) + 1.0 < needed
    {
        let key = format!("{key}.n_resamples");
        let min = RESAMPLES_MIN.max(needed as u32);
        return Err(document.refuse(
            &key,
            format!(
                "`{key}` is {}, must be between {} and {}",
                thousands(u64::from(n_resamples)),
                thousands(u64::from(min)),
                thousands(u64::from(RESAMPLES_MAX))
            ),
        ));
    }
    if RULES_MAX < raw.rule.len() {
        return Err(document.refuse(
            &format!("{key}.rule"),
            format!("`{key}` has {} rules, at most {RULES_MAX} are read", raw.rule.len()),
        ));
    }
    let mut rules: Vec<Rule> = Vec::with_capacity(raw.rule.len());
    for (at, raw) in raw.rule.into_iter().enumerate() {
        let key = format!("{key}.rule.{at}");
        let rule = rule(document, &key, raw)?;
        if rules.iter().any(|it| it.name == rule.name) {
            return Err(document.refuse(
                &key,
                format!(
                    "two rules are called `{}`: waivers and reports need names that differ",
                    rule.name
                ),
            ));
        }
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
    let mut waivers = Vec::with_capacity(raw.waiver.len());
    for (at, raw) in raw.waiver.into_iter().enumerate() {
        waivers.push(waiver(document, &format!("{key}.waiver.{at}"), &rules, raw)?);
    }
    Ok(Gate {
        name,
        model: None,
        split: None,
        baseline,
        anchor: None,
        reliability,
        budget: None,
        signatures: None,
        power,
        inconclusive_is_allowed: raw.inconclusive == RawInconclusive::Allow,
        unbaselined_is_allowed: raw.without_baseline == RawWithoutBaseline::AbsoluteRulesOnly,
        n_resamples,
        rules,
        operational: Vec::new(),
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

fn rule(document: &Document, key: &str, raw: RawRule) -> Result<Rule, Failure> {
    let bound = bound(document, key, &raw)?;
    let slices = match (raw.slice, raw.slices) {
        (Some(_), Some(_)) => {
            return Err(document
                .refuse(&format!("{key}.slices"), "a rule has `slice` or `slices`, not both"));
        }
        (None, None) => vec![SliceRef::All],
        (Some(one), None) => vec![slice(document, &format!("{key}.slice"), &one)?],
        (None, Some(many)) => {
            let key = format!("{key}.slices");
            if many.is_empty() || RULE_SLICES_MAX < many.len() {
                return Err(document.refuse(
                    &key,
                    format!("`slices` names {}, must be 1 to {RULE_SLICES_MAX}", many.len()),
                ));
            }
            many.iter().map(|it| slice(document, &key, it)).collect::<Result<_, _>>()?
        }
    };
    let name = raw.name.unwrap_or_else(|| format!("{} {bound}", raw.metric));
    if name.trim().is_empty() {
        return Err(document.refuse(&format!("{key}.name"), "`name` is empty"));
    }
    // A leak alarm is a reason to look, not to block: it warns unless the rule says otherwise.
    let severity = raw.severity.unwrap_or(match bound {
        Bound::MaxImprovement(_) => RawSeverity::Warn,
        _ => RawSeverity::Error,
    });
    Ok(Rule {
        name,
        metric: raw.metric,
        slices,
        bound,
        n_rows_min: raw.n_rows_min.unwrap_or(0),
        correction: Correction::None,
        warns_only: severity == RawSeverity::Warn,
    })
}

/// Exactly one of the five, finite, and not negative where it is a size.
fn bound(document: &Document, key: &str, raw: &RawRule) -> Result<Bound, Failure> {
    let given = [
        ("min", raw.min.map(Bound::Min)),
        ("max", raw.max.map(Bound::Max)),
        ("max_regression", raw.max_regression.as_ref().map(|it| Bound::MaxRegression(it.0))),
        ("min_improvement", raw.min_improvement.as_ref().map(|it| Bound::MinImprovement(it.0))),
        ("max_improvement", raw.max_improvement.as_ref().map(|it| Bound::MaxImprovement(it.0))),
    ];
    let mut given = given.into_iter().filter_map(|(field, bound)| Some((field, bound?)));
    let (field, bound) = match (given.next(), given.next()) {
        (Some(one), None) => one,
        (None, _) => {
            return Err(document.refuse(
                key,
                "the rule has no bound, must have one of `min`, `max`, `max_regression`, `min_improvement`, \
                 `max_improvement`",
            ));
        }
        (Some((one, _)), Some((other, _))) => {
            return Err(document.refuse(
                &format!("{key}.{other}"),
                format!("the rule has `{one}` and `{other}`, must have one bound: write two rules"),
            ));
        }
    };
    let key = format!("{key}.{field}");
    let value = match bound {
        Bound::Min(value) | Bound::Max(value) => value,
        Bound::MaxRegression(change)
        | Bound::MinImprovement(change)
        | Bound::MaxImprovement(change) => change.amount(),
    };
    if !value.is_finite() {
        return Err(document.refuse(&key, format!("`{field}` is {value}, must be a finite number")));
    }
    if bound.is_change() && value < 0.0 {
        return Err(document.refuse(
            &key,
            format!(
                "`{field}` is {value}, must be at least 0: the metric's own direction says what is better, never a sign"
            ),
        ));
    }
    Ok(bound)
}

fn slice(document: &Document, key: &str, text: &str) -> Result<SliceRef, Failure> {
    if text == "all" {
        return Ok(SliceRef::All);
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    if name.parse::<Name>().is_err() {
        let asked: String = text.chars().take(80).collect();
        return Err(document.refuse(
            key,
            format!(
                "`{asked}` is not a slice, must be `all`, a name as in `evening`, one value as in `carrier=UA`, or \
                 every value as in `carrier=*`"
            ),
        ));
    }
    Ok(match value {
        Some("*") => SliceRef::Every(name.to_owned()),
        _ => SliceRef::Named(text.to_owned()),
    })
}

fn waiver(
    document: &Document,
    key: &str,
    rules: &[Rule],
    raw: RawWaiver,
) -> Result<Waiver, Failure> {
    let known: BTreeSet<&str> = rules.iter().map(|it| it.name.as_str()).collect();
    if !known.contains(raw.rule.as_str()) {
        return Err(document.refuse(
            &format!("{key}.rule"),
            format!(
                "no rule is called `{}`: the nearest are `{}`",
                raw.rule,
                crate::nearest(&raw.rule, known).join("`, `")
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
mod tests {
    use super::{BaselineRef, Bound, Change, Policy, SliceRef};
    use crate::{Document, Failure};

    const GOOD: &str = r#"version = 1
[gate.release]
baseline = "@champion"
reliability = 0.9
without_baseline = "absolute-rules-only"
[[gate.release.rule]]
name = "ranks at all"
metric = "auc"
min = 0.64
[[gate.release.rule]]
name = "not worse anywhere"
metric = "roc_auc"
slices = ["all", "evening", "carrier=UA", "carrier=*"]
max_regression = { absolute = 0.005 }
n_rows_min = 2000
[[gate.release.rule]]
metric = "log_loss"
max_improvement = { relative = 0.5 }
[[gate.release.waiver]]
rule = "ranks at all"
until = 2026-12-31
by = "ana"
reason = "September labels arrive late"
"#;

    fn read(text: &str) -> Result<Policy, Failure> {
        Policy::read(&Document::parse("gate.toml", text)?)
    }

    #[test]
    fn a_good_file_fills_every_default() {
        let policy = read(GOOD).expect("valid");
        let gate = policy.gates.values().next().expect("one gate");
        assert_eq!(gate.baseline, BaselineRef::Alias("champion".parse().expect("a name")));
        assert!(gate.unbaselined_is_allowed && !gate.inconclusive_is_allowed);
        assert_eq!(gate.n_resamples, 9_999);
        assert_eq!(
            gate.rules[1].slices,
            [
                SliceRef::All,
                SliceRef::Named("evening".to_owned()),
                SliceRef::Named("carrier=UA".to_owned()),
                SliceRef::Every("carrier".to_owned())
            ]
        );
        assert_eq!(gate.rules[0].slices, [SliceRef::All]);
        assert_eq!(gate.rules[2].bound, Bound::MaxImprovement(Change::Relative(0.5)));
        assert_eq!(
            gate.rules[2].name,
            "log_loss not better by more than 0.5 of the baseline's value"
        );
        assert!(gate.rules[2].warns_only && !gate.rules[0].warns_only);
        assert_eq!(gate.waivers[0].until, "2026-12-31");
    }

    #[test]
    fn the_digest_is_of_the_meaning_not_the_text() {
        let digest = |text: &str| read(text).expect("valid").digest;
        assert_eq!(digest(GOOD), digest(&format!("# a comment\n{GOOD}\n")));
        assert_ne!(digest(GOOD), digest(&GOOD.replace("0.64", "0.65")));
        assert_ne!(digest(GOOD), digest(&GOOD.replace("2026-12-31", "2027-12-31")));
    }

    #[test]
    fn baselines_are_read_in_all_forms() {
        for (text, expected) in [
            ("@7", BaselineRef::Version(7)),
            ("naive", BaselineRef::Naive),
            ("@stable", BaselineRef::Alias("stable".parse().expect("a name"))),
        ] {
            let policy = read(&GOOD.replace("@champion", text)).expect(text);
            assert_eq!(policy.gates.values().next().expect("one").baseline, expected);
        }
    }

    #[test]
    fn messages_say_asked_allowed_and_where() {
        let failure =
            read(&GOOD.replace("n_rows_min = 2000", "min = 0.5")).expect_err("two bounds");
        assert_eq!(
            failure.message,
            "the rule has `min` and `max_regression`, must have one bound: write two rules"
        );
        assert_eq!(failure.details, ["--> gate.toml:14:18"]);
        let failure = read(&GOOD.replace("n_rows_min", "rows_min")).expect_err("unknown key");
        assert_eq!(failure.details, ["--> gate.toml:15:1"]);
        assert_eq!(failure.hints, ["the nearest known word is `n_rows_min`"]);
        let failure = read(&GOOD.replace("rule = \"ranks", "rule = \"rank")).expect_err("no rule");
        assert_eq!(
            failure.message,
            "no rule is called `rank at all`: the nearest are `ranks at all`, `not worse anywhere`, `log_loss not better by more than 0.5 of the baseline's value`"
        );
    }

    #[test]
    fn every_bad_value_is_refused_with_its_place() {
        for (from, to) in [
            ("version = 1", "version = 2"),
            ("reliability = 0.9", "reliability = 1"),
            ("reliability = 0.9", "reliability = nan"),
            ("reliability = 0.9", "power = 0.2"),
            ("reliability = 0.9", "n_resamples = 998"),
            ("reliability = 0.9", "reliability = 0.9995\nn_resamples = 1000"),
            ("reliability = 0.9", "budget = 3"),
            ("reliability = 0.9", "inconclusive = \"pass\""),
            ("\"@champion\"", "\"champion\""),
            ("\"@champion\"", "\"flights@7\""),
            ("\"@champion\"", "\"@0\""),
            ("\"@champion\"", "\"@\""),
            ("\"@champion\"", "\"none\""),
            ("metric = \"auc\"", "metric = \"aoc\""),
            ("metric = \"auc\"", ""),
            ("min = 0.64", ""),
            ("min = 0.64", "min = inf"),
            ("min = 0.64", "min = nan"),
            ("{ absolute = 0.005 }", "0.005"),
            ("{ absolute = 0.005 }", "{ absolute = -0.005 }"),
            ("{ absolute = 0.005 }", "{ absolute = 1, relative = 1 }"),
            ("{ absolute = 0.005 }", "{ margin = 1 }"),
            ("\"evening\"", "\"../x\""),
            ("\"carrier=*\"]", "\"=*\"]"),
            ("slices = [", "slice = \"all\"\nslices = ["),
            ("[\"all\", \"evening\", \"carrier=UA\", \"carrier=*\"]", "[]"),
            ("\"not worse anywhere\"", "\"ranks at all\""),
            ("\"not worse anywhere\"", "\" \""),
            ("until = 2026-12-31", "until = \"soon\""),
            ("until = 2026-12-31", "until = 2026-12-31T10:00:00Z"),
            ("by = \"ana\"", "by = \"\""),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let failure = read(&GOOD.replacen(from, to, 1)).expect_err(to);
            assert!(
                failure.details.iter().any(|it| it.starts_with("--> gate.toml:")),
                "{to}: no place in {failure:?}"
            );
        }
    }
}
