//! Step `promote`, and its way back: an alias moves only by compare-and-swap, and only with a verdict that names what
//! it judged.

use std::collections::BTreeSet;

use karat_core::{
    Digest, Event, Exit, Failure, Name, Observer, Outcome, Step, Verdict, policy::Policy,
    summary::PromotionSummary,
};
use karat_store::{Authority, PAGE_ROWS_MAX, PromoteRequest, Promotion, VersionRecord};

use crate::{Lab, gate::exit_of};

/// The alias that gates compare with unless told otherwise.
pub const CHAMPION: &str = "champion";

impl Lab<'_> {
    /// Moves `alias` to `version` under `authority`, unless it is there already.
    pub fn promote(
        &self,
        observer: &mut dyn Observer,
        version: &VersionRecord,
        alias: &Name,
        authority: Authority,
    ) -> Result<PromotionSummary, Failure> {
        let current = self.store.alias(&version.model, alias)?;
        self.promote_from(observer, version, alias, authority, current.map_or(0, |it| it.seq))
    }

    /// As [`Lab::promote`], for a caller who looked at the alias before it judged: `expected_seq` is what it saw.
    pub fn promote_from(
        &self,
        observer: &mut dyn Observer,
        version: &VersionRecord,
        alias: &Name,
        authority: Authority,
        expected_seq: u64,
    ) -> Result<PromotionSummary, Failure> {
        let model = &version.model;
        let name = format!("{model}@{alias}");
        let current = self.store.alias(model, alias)?;
        let started = self.now();
        if let Some(current) = &current
            && current.version == version.version
        {
            observer.observe(Event::StepFinished {
                step: Step::Promote,
                run: None,
                is_cached: true,
                seconds: 0.0,
                summary: format!("{name} -> {}", version.label()),
            });
            return Ok(PromotionSummary {
                alias: name,
                from: Some(version.label()),
                to: Some(version.label()),
                is_moved: false,
                reason: "already there".to_owned(),
            });
        }
        let request = PromoteRequest {
            model: model.clone(),
            alias: alias.clone(),
            to: version.version,
            expected_seq,
            authority,
            actor: self.actor.clone(),
        };
        let promotion = self.store.promote(&request, self.now())?;
        observer.observe(Event::StepFinished {
            step: Step::Promote,
            run: None,
            is_cached: false,
            seconds: self.seconds_since(started),
            summary: format!("{name} -> {}", version.label()),
        });
        Ok(summary(&promotion))
    }

    /// The move by which `alias` came to point where it points, if it was this verdict's: an earlier pass of the same
    /// command made it, and this one came to the same.
    pub(crate) fn moved_by(
        &self,
        model: &Name,
        alias: &Name,
        verdict: Digest,
    ) -> Result<Option<PromotionSummary>, Failure> {
        let history = self.store.history(model, alias)?;
        let last = history.last().filter(|it| it.authority == Authority::Verdict(verdict));
        Ok(last.map(summary))
    }

    /// The verdict that lets `version` be promoted: passing, about exactly this model, under today's policy, and the
    /// last word of its gate. An older pass does not outlive a newer fail.
    pub fn passing_verdict(
        &self,
        version: &VersionRecord,
        policy: &Policy,
        alias: &Name,
    ) -> Result<Digest, Failure> {
        let verdicts = self.store.verdicts_of(&version.manifest)?;
        let still = self.store.alias(&version.model, alias)?.map_or_else(
            || format!("`{}@{alias}` points to nothing", version.model),
            |it| {
                format!(
                    "`{}@{alias}` still points to {}@{}",
                    version.model, version.model, it.version
                )
            },
        );
        let force = format!(
            "`karat promote {} --force --reason TEXT` overrides the gate and records who did",
            version.label()
        );
        let Some((_, newest)) = verdicts.first() else {
            return Err(Failure::new(
                "verdict-missing",
                Exit::Fail,
                format!("`{}` has not been judged by any gate", version.label()),
            )
            .detail(still)
            .hint(format!("`karat gate {}` judges it", version.label()))
            .hint(force));
        };
        if let Some(digest) = last_pass(&verdicts, policy) {
            return Ok(digest);
        }
        if newest.judged.policy != policy.digest {
            return Err(Failure::new(
                "verdict-outdated",
                Exit::Fail,
                format!(
                    "`{}` was judged under another gate.toml ({})",
                    version.label(),
                    newest.judged.policy.short()
                ),
            )
            .detail(still)
            .hint(format!("`karat gate {}` judges it again", version.label())));
        }
        let mut failure = Failure::new(
            "verdict-not-passed",
            newest.outcome.exit(),
            format!(
                "`{}`: the verdict of gate `{}` is {}",
                version.label(),
                newest.gate,
                newest.outcome.word()
            ),
        );
        for finding in newest.findings.iter().filter(|it| Outcome::Warn < it.outcome).take(20) {
            failure = failure
                .detail(format!("{}: {}: {}", finding.rule, finding.subject, finding.message));
        }
        Err(failure.detail(still).hint(force))
    }

    /// An error unless the verdict's other digests are of bytes that belong to `version`: predictions that are whole, that
    /// this model made of that snapshot, and that hold the judged rows. Then what the policy wants signed.
    pub fn demand_judged(
        &self,
        version: &VersionRecord,
        policy: &Policy,
        digest: &Digest,
    ) -> Result<(), Failure> {
        let verdict = self.store.verdict(digest)?;
        let judged = &verdict.judged;
        let refuse = |what: String| {
            Failure::new(
                "verdict-mismatch",
                Exit::Fail,
                format!("verdict `{}` is not about `{}`: {what}", digest.short(), version.label()),
            )
            .detail("nothing was promoted")
            .hint(format!("`karat gate {}` judges it again", version.label()))
        };
        if judged.candidate != version.manifest {
            return Err(refuse(format!("it judged {}", judged.candidate)));
        }
        let predictions = judged.predictions;
        if !self.store.contains(&predictions, true)? {
            return Err(refuse(format!("its predictions {predictions} are not in the store")));
        }
        let mut is_made_by_it = false;
        for (run, step, _) in self.store.makers_of(&predictions, PAGE_ROWS_MAX)? {
            let inputs = self.store.run(&run.0)?.inputs;
            is_made_by_it |= step == Step::Score
                && inputs.get("model") == Some(&version.manifest)
                && inputs.get("snapshot") == Some(&judged.snapshot);
        }
        if !is_made_by_it {
            return Err(refuse(format!(
                "no run on record made its predictions {} of that snapshot with this model",
                predictions.short()
            )));
        }
        let rows = self.tables.read_scored(&self.store.path(&predictions))?.rows;
        if rows != judged.rows {
            return Err(refuse(format!(
                "its predictions hold rows {rows}, it judged {}",
                judged.rows
            )));
        }
        match policy.gates.values().find(|gate| gate.name.as_str() == verdict.gate) {
            Some(gate) => self.demand_signatures(gate, version, digest),
            None => Err(refuse(format!("gate.toml declares no gate `{}`", verdict.gate))),
        }
    }

    /// Moves `alias` back to the version that held it before and whose bytes still verify.
    pub fn rollback(
        &self,
        observer: &mut dyn Observer,
        model: &Name,
        alias: &Name,
        reason: &str,
    ) -> Result<PromotionSummary, Failure> {
        // Looked at before the target is chosen: whoever moves the alias meanwhile makes the swap fail.
        let seq = self.store.alias(model, alias)?.map_or(0, |it| it.seq);
        let target = self.store.rollback_target(model, alias)?;
        let authority = Authority::Rollback { reason: reason.to_owned() };
        self.promote_from(observer, &target, alias, authority, seq)
    }
}

/// Of verdicts on one model, newest first: one that passes under this policy and is the last word of its gate.
pub(crate) fn last_pass(verdicts: &[(Digest, Verdict)], policy: &Policy) -> Option<Digest> {
    let fits = |verdict: &Verdict| {
        verdict.judged.policy == policy.digest && exit_of(verdict) == Exit::Pass
    };
    let mut judged = BTreeSet::new();
    let mut last_words = verdicts.iter().filter(|(_, verdict)| judged.insert(&verdict.gate));
    last_words.find(|(_, verdict)| fits(verdict)).map(|(digest, _)| *digest)
}

fn summary(promotion: &Promotion) -> PromotionSummary {
    let model = &promotion.model;
    PromotionSummary {
        alias: format!("{model}@{}", promotion.alias),
        from: promotion.from.map(|it| format!("{model}@{it}")),
        to: Some(format!("{model}@{}", promotion.to)),
        is_moved: true,
        reason: promotion.why(),
    }
}
