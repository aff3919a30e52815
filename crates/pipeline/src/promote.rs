//! Step `promote`, and its way back: an alias moves only by compare-and-swap, and only with a verdict that names what
//! it judged.

use karat_core::{
    Digest, Event, Exit, Failure, Name, Observer, Outcome, Step, Verdict, policy::Policy,
    summary::PromotionSummary,
};
use karat_store::{Authority, PromoteRequest, VersionRecord};

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
        let reason = match &authority {
            Authority::Verdict(digest) => format!("verdict {}", digest.short()),
            Authority::Forced { reason } => format!("forced: {reason}"),
            Authority::Rollback { reason } => format!("rollback: {reason}"),
        };
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
        Ok(PromotionSummary {
            alias: name,
            from: promotion.from.map(|it| format!("{model}@{it}")),
            to: Some(version.label()),
            is_moved: true,
            reason,
        })
    }

    /// The newest verdict that lets `version` be promoted: passing, about exactly this model, under today's policy.
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
        let fits = |verdict: &Verdict| {
            verdict.judged.policy == policy.digest && exit_of(verdict) == Exit::Pass
        };
        if let Some((digest, _)) = verdicts.iter().find(|(_, verdict)| fits(verdict)) {
            return Ok(*digest);
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

    /// Moves `alias` back to the version that held it before and whose bytes still verify.
    pub fn rollback(
        &self,
        observer: &mut dyn Observer,
        model: &Name,
        alias: &Name,
        reason: &str,
    ) -> Result<PromotionSummary, Failure> {
        let target = self.store.rollback_target(model, alias)?;
        self.promote(observer, &target, alias, Authority::Rollback { reason: reason.to_owned() })
    }
}
