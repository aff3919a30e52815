//! What operational rules ask about: what a model costs, and whether it can be trusted to behave. Only what a rule asks for
//! is measured; what cannot be had is a reason, and the rule is then not applied.
//!
//! Reading order: [`Lab::standing`] (facts about records), [`Lab::behaviour`] (what is tried), `measure/sample.rs`.

use std::collections::{BTreeMap, BTreeSet};

use karat_core::{
    Exit, Failure, Likeness, Name, Observer, Outcome, Verdict,
    policy::{Gate, Measure, OperationalRule},
    port::Located,
};
use karat_store::{RunRecord, VersionRecord};

use crate::{
    Checked, Lab, ModelManifest, ReplayOptions, ScoreCost, Scored, replay::Recorded, train,
};

mod sample;

use sample::{Parity, Sample};

const MIB: f64 = 1_048_576.0;

/// Values by measure, each with the reason where there is none.
pub(crate) type Measured = BTreeMap<Measure, Result<f64, String>>;

/// The measures that the gate's rules name.
pub(crate) fn asked_of(gate: &Gate) -> BTreeSet<Measure> {
    gate.operational.iter().map(|rule| rule.measure).collect()
}

/// Whether a measure is of the time or room that scoring takes.
pub(crate) const fn is_cost(measure: Measure) -> bool {
    matches!(
        measure,
        Measure::RowsPerSecond
            | Measure::LatencyP50Ms
            | Measure::LatencyP95Ms
            | Measure::PeakMemoryMib
            | Measure::ModelSizeMib
    )
}

/// What was recorded while the candidate's predictions were made.
pub(crate) fn costs(asked: &BTreeSet<Measure>, cost: Option<&ScoreCost>) -> Measured {
    let of = |measure: Measure| {
        let Some(cost) = cost else {
            return Err("its predictions were made without being timed".to_owned());
        };
        let memory = || "this system does not tell how much memory a process has".to_owned();
        match measure {
            Measure::RowsPerSecond => cost
                .rows_per_second()
                .ok_or_else(|| "scoring took less time than the clock shows".to_owned()),
            Measure::LatencyP50Ms => Ok(cost.latency_p50_ms),
            Measure::LatencyP95Ms => Ok(cost.latency_p95_ms),
            Measure::PeakMemoryMib => cost.peak_memory.map(|it| it as f64 / MIB).ok_or_else(memory),
            _ => Ok(cost.model_bytes as f64 / MIB),
        }
    };
    asked.iter().filter(|it| is_cost(**it)).map(|it| (*it, of(*it))).collect()
}

/// Measures as text: every digit of a number, or the reason.
pub(crate) fn spelled(measured: &Measured) -> BTreeMap<String, String> {
    let text = |value: &Result<f64, String>| match value {
        Ok(value) => value.to_string(),
        Err(reason) => reason.clone(),
    };
    measured.iter().map(|(measure, value)| (measure.to_string(), text(value))).collect()
}

/// What was measured for a verdict, and why something was not, as its findings say.
pub(crate) fn of_verdict(gate: &Gate, verdict: &Verdict) -> Measured {
    let of = |rule: &OperationalRule| {
        let reason = || {
            let finding = verdict.findings.iter().find(|it| it.rule == rule.name);
            finding.map_or_else(String::new, |it| it.message.clone())
        };
        verdict.operational.get(&rule.measure.to_string()).copied().ok_or_else(reason)
    };
    gate.operational.iter().map(|rule| (rule.measure, of(rule))).collect()
}

impl Lab<'_> {
    /// Facts about records: they cost little, and they may change while the bytes that are judged do not, so a verdict is
    /// looked up by them too.
    pub(crate) fn standing(
        &self,
        asked: &BTreeSet<Measure>,
        checked: &Checked,
        candidate: &VersionRecord,
        scored: &Scored,
    ) -> Measured {
        let mut found = Measured::new();
        for measure in asked {
            let value = match measure {
                Measure::ChecksPassed => Ok(yes(checked.outcome() == Outcome::Pass)),
                Measure::LineageComplete => self.trace(candidate, scored),
                Measure::CleanGit => self.clean_git(candidate),
                _ => continue,
            };
            found.insert(*measure, value);
        }
        found
    }

    /// Follows the candidate back to its files: every digest on the way is in the store and verifies, every record agrees
    /// with itself, and the files that it was trained on lie there as they were.
    fn trace(&self, candidate: &VersionRecord, scored: &Scored) -> Result<f64, String> {
        let run = self.store.run(&candidate.run.0).map_err(|error| error.to_string())?;
        // Another version of karat may have trained it; only a replay would mind.
        let options = ReplayOptions {
            version: Some(candidate.clone()),
            tolerance: Some(0.0),
            ..ReplayOptions::default()
        };
        let recorded = Recorded::open(self, &run, &options).map_err(|it| told(&it))?;
        let located = &recorded.located;
        let known =
            self.store.known_files(&located.snapshot.dataset).map_err(|error| error.to_string())?;
        let on_progress = &mut |_, _| {};
        let (there, _) = self
            .tables
            .snapshot(self.root, &located.dataset, &located.schema, &known, on_progress)
            .map_err(|it| told(&it))?;
        if there.digest() != located.snapshot.digest() {
            return Err(format!(
                "the files of `{}`, which it was trained on, have changed since",
                located.snapshot.label()
            ));
        }
        let gap = |what: &str| Err(format!("run `{}` records {what}", run.id));
        if run.code.commit.is_none() {
            return gap("no commit: the project lay in no git work tree");
        }
        if train::environment(&run.metrics).is_none_or(|it| it.host.binary.is_none()) {
            return gap("no digest of the executable that trained it");
        }
        for digest in run.outputs.values().chain([&scored.predictions]) {
            self.store.read(digest).map_err(|error| error.to_string())?;
        }
        Ok(1.0)
    }

    fn clean_git(&self, candidate: &VersionRecord) -> Result<f64, String> {
        let run = self.store.run(&candidate.run.0).map_err(|error| error.to_string())?;
        match (run.code.commit, run.code.is_dirty) {
            (Some(_), Some(is_dirty)) => Ok(yes(!is_dirty)),
            _ => Err(format!(
                "run `{}` records no commit: the project lay in no git work tree",
                run.id
            )),
        }
    }

    /// What only trying shows: the same scores elsewhere, on disturbed inputs, after training again.
    pub(crate) fn behaviour(
        &self,
        observer: &mut dyn Observer,
        asked: &BTreeSet<Measure>,
        rows: (&Located, &Name),
        candidate: &VersionRecord,
        device: &str,
    ) -> Result<Measured, Failure> {
        let mut found = Measured::new();
        if asked.contains(&Measure::ReplayIdentical) {
            found.insert(Measure::ReplayIdentical, self.replays(observer, candidate)?);
        }
        if !asked.iter().any(|it| needs_rows(*it)) {
            return Ok(found);
        }
        let manifest = ModelManifest::open(self, &candidate.manifest)?;
        let sample = Sample::take(self, rows, &manifest, device)?;
        let parity = match asked.iter().any(|it| is_parity(*it)) {
            true => sample.parity()?,
            false => Err(String::new()),
        };
        for measure in asked {
            let of_parity = |value: &dyn Fn(&Parity) -> Result<f64, String>| {
                parity.as_ref().map_err(String::clone).and_then(value)
            };
            let value = match measure {
                Measure::ParityMax => of_parity(&|it| Ok(it.max)),
                Measure::ParityP999 => of_parity(&|it| Ok(it.p999)),
                Measure::ParityFlips => of_parity(&|it| it.flips.ok_or_else(no_class)),
                Measure::Robustness(how) => sample.robustness(*how)?,
                _ => continue,
            };
            found.insert(*measure, value);
        }
        Ok(found)
    }

    /// Trains the candidate once more. Only a stop ends the gate; whatever else is in the way is why nobody knows.
    fn replays(
        &self,
        observer: &mut dyn Observer,
        candidate: &VersionRecord,
    ) -> Result<Result<f64, String>, Failure> {
        let run: RunRecord = match self.store.run(&candidate.run.0) {
            Ok(run) => run,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let options =
            ReplayOptions { version: Some(candidate.clone()), ..ReplayOptions::default() };
        match self.replay(observer, &run, &options) {
            Ok(replayed) => Ok(Ok(yes(replayed.replay.likeness == Likeness::Identical))),
            Err(failure) if is_stop(failure.exit) => Err(failure),
            Err(failure) => Ok(Err(told(&failure))),
        }
    }
}

const fn is_parity(measure: Measure) -> bool {
    matches!(measure, Measure::ParityMax | Measure::ParityP999 | Measure::ParityFlips)
}

const fn needs_rows(measure: Measure) -> bool {
    is_parity(measure) || matches!(measure, Measure::Robustness(_))
}

fn no_class() -> String {
    "a regression predicts no class that could change".to_owned()
}

const fn is_stop(exit: Exit) -> bool {
    matches!(exit, Exit::Stopped | Exit::Interrupted | Exit::Terminated)
}

/// Yes is 1.
fn yes(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// A failure as the reason why a rule could not be applied.
fn told(failure: &Failure) -> String {
    match failure.details.first() {
        Some(detail) => format!("{} ({detail})", failure.message),
        None => failure.message.clone(),
    }
}
