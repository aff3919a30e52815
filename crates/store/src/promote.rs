//! Aliases: moved by compare-and-swap only, on somebody's authority, with a history that can only grow.
//!
//! One transaction holds the write lock from the first look to the last row, so of two promotions one comes second and
//! sees what the first did.

use std::collections::BTreeMap;

use karat_core::{Digest, DigestBuilder, Exit, Name, Outcome, Timestamp, Verdict};
use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::{
    Conflict, Store, StoreError, VersionRecord,
    chain::{GENESIS, Link},
    registry::{demand_verdict, version_in},
    row::{Text, int, uint},
};

/// Where an alias points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasRecord {
    /// The version.
    pub version: u32,
    /// How often it has moved: what compare-and-swap compares. From 1.
    pub seq: u64,
    /// Who moved it last.
    pub actor: String,
    /// When.
    pub moved_at: Timestamp,
}

/// By what right an alias moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// A passing verdict about exactly this version.
    Verdict(Digest),
    /// A person who overrides the gate, for the record.
    Forced {
        /// Why.
        reason: String,
    },
    /// Back to a version that held the alias before.
    Rollback {
        /// Why.
        reason: String,
    },
}

impl Authority {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Verdict(_) => "verdict",
            Self::Forced { .. } => "forced",
            Self::Rollback { .. } => "rollback",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Verdict(_) => None,
            Self::Forced { reason } | Self::Rollback { reason } => Some(reason),
        }
    }
}

/// A wish to move an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromoteRequest {
    /// The model.
    pub model: Name,
    /// The alias.
    pub alias: Name,
    /// The version it shall point to.
    pub to: u32,
    /// [`AliasRecord::seq`] as it was when the decision was made; 0 for an alias that did not exist.
    pub expected_seq: u64,
    /// By what right.
    pub authority: Authority,
    /// Who.
    pub actor: String,
}

/// One move of an alias, as recorded for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// The model.
    pub model: Name,
    /// The alias.
    pub alias: Name,
    /// Number of this move of the alias, from 1.
    pub seq: u64,
    /// Where it pointed before.
    pub from: Option<u32>,
    /// Where it points since.
    pub to: u32,
    /// By what right.
    pub authority: Authority,
    /// Who.
    pub actor: String,
    /// When.
    pub at: Timestamp,
    /// Hash of the move before; 32 zero bytes for the first.
    pub previous: Digest,
    /// Hash over all of this and `previous`.
    pub hash: Digest,
}

impl Promotion {
    /// One line: `verdict 9f3c21ab`, `forced: …`, `rollback: …`.
    #[must_use]
    pub fn why(&self) -> String {
        match &self.authority {
            Authority::Verdict(digest) => format!("verdict {}", digest.short()),
            Authority::Forced { reason } => format!("forced: {reason}"),
            Authority::Rollback { reason } => format!("rollback: {reason}"),
        }
    }
}

impl Link for Promotion {
    fn seq(&self) -> u64 {
        self.seq
    }

    fn previous(&self) -> Digest {
        self.previous
    }

    fn hash(&self) -> Digest {
        self.hash
    }

    fn follows(&self, before: Option<&Self>) -> bool {
        self.from == before.map(|it| it.to)
    }

    fn hash_of(&self) -> Digest {
        let mut builder = DigestBuilder::new("karat.promotion.v1");
        builder
            .field(self.previous.as_bytes())
            .field(self.model.as_str().as_bytes())
            .field(self.alias.as_str().as_bytes())
            .field(&self.seq.to_le_bytes())
            .field(&self.from.unwrap_or(0).to_le_bytes())
            .field(&self.to.to_le_bytes())
            .field(self.authority.kind().as_bytes())
            .field(self.actor.as_bytes())
            .field(&self.at.0.to_le_bytes());
        match &self.authority {
            Authority::Verdict(digest) => builder.field(digest.as_bytes()),
            Authority::Forced { reason } | Authority::Rollback { reason } => {
                builder.field(reason.as_bytes())
            }
        };
        builder.finish()
    }
}

impl Store {
    /// Where an alias points; `None` when it does not exist.
    pub fn alias(&self, model: &Name, alias: &Name) -> Result<Option<AliasRecord>, StoreError> {
        self.look(|connection| alias_in(connection, model, alias))
    }

    /// The aliases of a model.
    pub fn aliases(&self, model: &Name) -> Result<BTreeMap<Name, AliasRecord>, StoreError> {
        self.look(|connection| {
            let mut statement = connection.prepare(
                "SELECT alias, version, seq, actor, moved_at FROM alias WHERE model = ?1",
            )?;
            let rows = statement.query_map([model.as_str()], |row| {
                Ok((row.get::<_, Text<Name>>("alias")?.0, alias_of(row)?))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Moves an alias: all of it, or nothing. An alias that points there already is left alone, and its last move is
    /// returned.
    pub fn promote(
        &self,
        request: &PromoteRequest,
        now: Timestamp,
    ) -> Result<Promotion, StoreError> {
        self.writable()?;
        let PromoteRequest { model, alias, .. } = request;
        let target = self.version(model, request.to)?;
        self.verify_version(&target)?;
        let verdict = match &request.authority {
            Authority::Verdict(digest) => Some((*digest, self.verdict(digest)?)),
            Authority::Forced { .. } | Authority::Rollback { .. } => None,
        };
        self.commit(|tx| {
            let current = alias_in(tx, model, alias)?;
            let past = history_in(tx, model, alias)?;
            if current.as_ref().map_or(0, |it| it.seq) != request.expected_seq {
                return Err(conflict(request, None, current));
            }
            if let (Some(current), Some(last)) = (&current, past.last())
                && current.version == request.to
            {
                return Ok(last.clone());
            }
            if let Some((digest, verdict)) = &verdict {
                demand_verdict(tx, digest)?;
                demand_pass(verdict, digest, &target)?;
                if let Some(judged_against) = outdated_baseline(tx, verdict, &target, &past)? {
                    return Err(conflict(request, Some(judged_against), current));
                }
            }
            if let Authority::Rollback { .. } = request.authority
                && !past.iter().any(|it| it.to == request.to)
            {
                return Err(StoreError::RollbackImpossible {
                    model: model.clone(),
                    alias: alias.clone(),
                    reason: format!("{} never held it", target.label()),
                    details: Vec::new(),
                });
            }
            append(tx, request, current.as_ref(), past.last(), now)
        })
    }

    /// Every move of an alias, oldest first.
    pub fn history(&self, model: &Name, alias: &Name) -> Result<Vec<Promotion>, StoreError> {
        self.look(|connection| history_in(connection, model, alias))
    }

    /// Where a rollback would go: the version that held the alias before this one, by a verdict or a rollback, and whose
    /// bytes verify. Rolling back twice goes two back; it never returns to what a rollback left.
    pub fn rollback_target(&self, model: &Name, alias: &Name) -> Result<VersionRecord, StoreError> {
        let impossible = |reason: &str, details| StoreError::RollbackImpossible {
            model: model.clone(),
            alias: alias.clone(),
            reason: reason.to_owned(),
            details,
        };
        // The versions that held the alias, oldest first, with those taken off that a rollback left.
        let mut held: Vec<(u32, bool)> = Vec::new();
        for promotion in self.history(model, alias)? {
            let is_forced = matches!(promotion.authority, Authority::Forced { .. });
            if let Authority::Rollback { .. } = promotion.authority {
                while held.last().is_some_and(|(version, _)| *version != promotion.to) {
                    held.pop();
                }
                if !held.is_empty() {
                    continue;
                }
            }
            held.push((promotion.to, is_forced));
        }
        let Some((current, _)) = held.pop() else {
            return Err(impossible("it has never pointed anywhere", Vec::new()));
        };
        let mut details = Vec::new();
        for (version, is_forced) in held.into_iter().rev() {
            if version == current {
                continue;
            }
            let record = self.version(model, version)?;
            if is_forced {
                details.push(format!("{} held it only by force", record.label()));
                continue;
            }
            match self.verify_version(&record) {
                Ok(()) => return Ok(record),
                Err(
                    error @ (StoreError::ObjectMissing { .. } | StoreError::ObjectCorrupt { .. }),
                ) => {
                    details.push(format!("{}: {error}", record.label()));
                }
                Err(error) => return Err(error),
            }
        }
        Err(impossible("no earlier version held it by a verdict and is whole", details))
    }
}

fn conflict(
    request: &PromoteRequest,
    judged_against: Option<String>,
    now: Option<AliasRecord>,
) -> StoreError {
    StoreError::PromotionConflict(Box::new(Conflict {
        model: request.model.clone(),
        alias: request.alias.clone(),
        to: request.to,
        judged_against,
        now: now.map(|it| (it.version, it.actor, it.moved_at)),
    }))
}

/// The verdict must allow the promotion and be about exactly these bytes.
fn demand_pass(
    verdict: &Verdict,
    digest: &Digest,
    target: &VersionRecord,
) -> Result<(), StoreError> {
    if verdict.judged.candidate != target.manifest {
        return Err(StoreError::VerdictMismatch {
            verdict: *digest,
            asked: target.label(),
            asked_manifest: target.manifest,
            judged: verdict.judged.candidate,
        });
    }
    let is_allowed = verdict.outcome == Outcome::Inconclusive && verdict.inconclusive_is_allowed;
    if verdict.outcome.exit() == Exit::Pass || is_allowed {
        return Ok(());
    }
    let (gate, candidate) = (verdict.gate.clone(), target.label());
    Err(StoreError::VerdictNotPassed { gate, candidate, outcome: verdict.outcome })
}

/// What the candidate was judged against, if that was what the alias pointed to and no longer is.
///
/// A verdict does not say whether its baseline was an alias or a fixed version. But a baseline that the alias pointed to
/// at any time since the candidate was registered was the alias's, as far as anybody can tell; so was no baseline at
/// all, if there was no alias then.
fn outdated_baseline(
    connection: &Connection,
    verdict: &Verdict,
    target: &VersionRecord,
    past: &[Promotion],
) -> Result<Option<String>, StoreError> {
    let manifest_of =
        |version| Ok::<_, StoreError>(version_in(connection, &target.model, version)?.manifest);
    let current = past.last().map(|it| manifest_of(it.to)).transpose()?;
    if verdict.judged.baseline == current {
        return Ok(None);
    }
    let before: u64 = connection.query_row(
        "SELECT count(*) FROM promotion JOIN version USING (model)
         WHERE model = ?1 AND version = ?2 AND alias = ?3 AND id <= after_promotion",
        (target.model.as_str(), target.version, past.first().map_or("", |it| it.alias.as_str())),
        |row| row.get(0).map(uint),
    )?;
    let n_before = usize::try_from(before).unwrap_or(usize::MAX).min(past.len());
    match verdict.judged.baseline {
        None => Ok((verdict.is_unbaselined && n_before == 0).then(|| "no baseline".to_owned())),
        Some(baseline) => {
            for promotion in &past[n_before.saturating_sub(1)..] {
                if manifest_of(promotion.to)? == baseline {
                    return Ok(Some(format!("{}@{}", target.model, promotion.to)));
                }
            }
            Ok(None)
        }
    }
}

fn append(
    connection: &Connection,
    request: &PromoteRequest,
    current: Option<&AliasRecord>,
    last: Option<&Promotion>,
    now: Timestamp,
) -> Result<Promotion, StoreError> {
    let PromoteRequest { model, alias, to, expected_seq, authority, actor } = request;
    let mut promotion = Promotion {
        model: model.clone(),
        alias: alias.clone(),
        seq: expected_seq + 1,
        from: current.map(|it| it.version),
        to: *to,
        authority: authority.clone(),
        actor: actor.clone(),
        at: now,
        previous: last.map_or(GENESIS, |it| it.hash),
        hash: GENESIS,
    };
    promotion.hash = promotion.hash_of();
    let verdict = match authority {
        Authority::Verdict(digest) => Some(Text(digest)),
        Authority::Forced { .. } | Authority::Rollback { .. } => None,
    };
    let n_moved = if current.is_some() {
        connection.execute(
            "UPDATE alias SET version = ?3, seq = seq + 1, actor = ?4, moved_at = ?5
             WHERE model = ?1 AND alias = ?2 AND seq = ?6",
            (model.as_str(), alias.as_str(), to, actor, now.0, int(*expected_seq)),
        )?
    } else {
        connection.execute(
            "INSERT INTO alias (model, alias, version, seq, actor, moved_at) VALUES (?1, ?2, ?3, 1, ?4, ?5)",
            (model.as_str(), alias.as_str(), to, actor, now.0),
        )?
    };
    if n_moved != 1 {
        return Err(conflict(request, None, current.cloned()));
    }
    connection.execute(
        "INSERT INTO promotion
             (model, alias, seq, from_version, to_version, kind, verdict, reason, actor, at, previous, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        (
            model.as_str(),
            alias.as_str(),
            int(promotion.seq),
            promotion.from,
            to,
            authority.kind(),
            verdict,
            authority.reason(),
            actor,
            now.0,
            Text(promotion.previous),
            Text(promotion.hash),
        ),
    )?;
    Ok(promotion)
}

fn alias_in(
    connection: &Connection,
    model: &Name,
    alias: &Name,
) -> Result<Option<AliasRecord>, StoreError> {
    let sql = "SELECT version, seq, actor, moved_at FROM alias WHERE model = ?1 AND alias = ?2";
    Ok(connection.query_row(sql, (model.as_str(), alias.as_str()), alias_of).optional()?)
}

fn alias_of(row: &Row<'_>) -> rusqlite::Result<AliasRecord> {
    Ok(AliasRecord {
        version: row.get("version")?,
        seq: uint(row.get("seq")?),
        actor: row.get("actor")?,
        moved_at: Timestamp(row.get("moved_at")?),
    })
}

pub(crate) fn history_in(
    connection: &Connection,
    model: &Name,
    alias: &Name,
) -> Result<Vec<Promotion>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT * FROM promotion WHERE model = ?1 AND alias = ?2 ORDER BY seq")?;
    let rows = statement.query_map((model.as_str(), alias.as_str()), promotion_of)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A whole row of `promotion`.
pub(crate) fn promotion_of(row: &Row<'_>) -> rusqlite::Result<Promotion> {
    let verdict = row.get::<_, Option<Text<Digest>>>("verdict")?;
    let reason = row.get::<_, Option<String>>("reason")?.unwrap_or_default();
    // The table's own rules allow no other combination.
    let authority = match (row.get::<_, String>("kind")?.as_str(), verdict) {
        (_, Some(digest)) => Authority::Verdict(digest.0),
        ("rollback", None) => Authority::Rollback { reason },
        (_, None) => Authority::Forced { reason },
    };
    Ok(Promotion {
        model: row.get::<_, Text<Name>>("model")?.0,
        alias: row.get::<_, Text<Name>>("alias")?.0,
        seq: uint(row.get("seq")?),
        from: row.get("from_version")?,
        to: row.get("to_version")?,
        authority,
        actor: row.get("actor")?,
        at: Timestamp(row.get("at")?),
        previous: row.get::<_, Text<Digest>>("previous")?.0,
        hash: row.get::<_, Text<Digest>>("hash")?.0,
    })
}
