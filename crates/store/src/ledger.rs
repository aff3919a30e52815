//! The ledger: what was shown of each evaluation set, to whom and when. One chain over the whole store.
//!
//! Whoever looks at the same rows again and again and keeps what looks best has fitted those rows. So looks are counted
//! here, in the transaction that puts a verdict on record, and a gate's budget is spent by them. A *use* of a set is a look
//! that tells something new of it: another verdict about predictions whose numbers were shown already is the same use,
//! under whichever gate. Counting is by the digest of the rows and their labels: other rows are another set.
//!
//! Somebody who can write to the database can drop its triggers and edit it. The chain finds that; so do the verdicts,
//! objects under their digests, each of which names the hash of the entry before its own. What nothing in here can find
//! is a store that was put back as a whole to what it was: a verdict kept elsewhere can.

use std::{collections::BTreeMap, path::Path};

use karat_core::{
    Digest, DigestBuilder, Exit, Outcome, Timestamp, Verdict,
    policy::{Adaptivity, Budget, Reveal},
    verdict::{Judged, LedgerUse},
};
use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::{
    Store, StoreError,
    chain::{GENESIS, Link, first_break},
    objects::read_object,
    row::{Text, Word, int, uint},
};

/// The first form of the database that has a ledger.
const LEDGER_SINCE: i64 = 2;
/// Who looked in stores that kept no ledger yet.
const BEFORE_THE_LEDGER: &str = "unknown (before the ledger)";

/// One look at an evaluation set, as recorded for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Its place in the ledger, from 1.
    pub seq: u64,
    /// Digest of the judged rows and their labels.
    pub eval_set: Digest,
    /// The predictions that were held against them.
    pub predictions: Digest,
    /// Whose they are: `flights@2`.
    pub candidate: String,
    /// What was asked.
    pub look: Look,
    /// What was shown of the answer.
    pub reveal: Reveal,
    /// Who.
    pub actor: String,
    /// When.
    pub at: Timestamp,
    /// Which use of its set this is, from 1. Entries of one number told nothing new after the first of them.
    pub n_uses: u32,
    /// Hash of the entry before; 32 zero bytes for the first.
    pub previous: Digest,
    /// Hash over all of this and `previous`.
    pub hash: Digest,
}

/// What was asked of an evaluation set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// A verdict.
    Verdict {
        /// Its digest.
        digest: Digest,
        /// The gate.
        gate: String,
        /// The policy it stands in.
        policy: Digest,
        /// The answer.
        outcome: Outcome,
        /// Uses the gate allowed then; absent without a budget.
        n_allowed: Option<u32>,
    },
    /// Two models side by side, without a gate.
    Comparison,
}

/// What another verdict would be to the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// For the verdict to name.
    pub ledger: LedgerUse,
    /// Whether the gate's budget covers it. `false`: every rule on this set is inconclusive.
    pub is_covered: bool,
}

/// Every look so far, oldest first, the chain unbroken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    entries: Vec<LedgerEntry>,
}

impl Link for LedgerEntry {
    fn seq(&self) -> u64 {
        self.seq
    }

    fn previous(&self) -> Digest {
        self.previous
    }

    fn hash(&self) -> Digest {
        self.hash
    }

    fn hash_of(&self) -> Digest {
        let mut builder = DigestBuilder::new("karat.ledger.v1");
        builder
            .field(self.previous.as_bytes())
            .field(&self.seq.to_le_bytes())
            .field(self.eval_set.as_bytes())
            .field(self.predictions.as_bytes())
            .field(self.candidate.as_bytes())
            .field(format!("{:?}", self.reveal).as_bytes())
            .field(self.actor.as_bytes())
            .field(&self.at.0.to_le_bytes());
        if let Look::Verdict { digest, gate, policy, outcome, n_allowed } = &self.look {
            builder
                .field(digest.as_bytes())
                .field(gate.as_bytes())
                .field(policy.as_bytes())
                .field(outcome.word().as_bytes())
                .field(&n_allowed.unwrap_or(0).to_le_bytes());
        }
        builder.finish()
    }
}

impl Ledger {
    /// Every look, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }

    /// Looks at one evaluation set, oldest first.
    pub fn of_set(&self, eval_set: Digest) -> impl Iterator<Item = &LedgerEntry> {
        self.entries.iter().filter(move |it| it.eval_set == eval_set)
    }

    /// Uses of one evaluation set so far.
    #[must_use]
    pub fn n_uses(&self, eval_set: Digest) -> u32 {
        self.of_set(eval_set).map(|it| it.n_uses).max().unwrap_or(0)
    }

    /// Hash of the newest entry; 32 zero bytes where there is none.
    #[must_use]
    pub fn head(&self) -> Digest {
        self.entries.last().map_or(GENESIS, |it| it.hash)
    }

    /// What a verdict of `gate` about `judged` would be, under the gate's budget. After a first pass, `first-change` covers
    /// no other predictions: whoever sees the pass has learnt from the set.
    #[must_use]
    pub fn place(&self, gate: &str, budget: Option<Budget>, judged: &Judged) -> Place {
        let mut numbering = Numbering::default();
        let asked = (gate, judged.policy);
        self.of_set(judged.rows).for_each(|it| {
            numbering.number(it);
        });
        let n_uses = numbering.of(judged.predictions, Some(asked));
        let is_covered = budget.is_none_or(|budget| {
            let has_passed =
                || self.of_set(judged.rows).any(|it| it.n_uses != n_uses && it.look.is_pass());
            let is_retired = budget.adaptivity == Adaptivity::FirstChange && has_passed();
            n_uses <= budget.uses && !is_retired
        });
        let ledger = LedgerUse {
            n_uses,
            n_allowed: budget.map(|it| it.uses),
            reveal: budget.map_or(Reveal::Numbers, |it| it.reveal),
            previous: self.head(),
        };
        Place { ledger, is_covered }
    }
}

impl Look {
    fn is_pass(&self) -> bool {
        matches!(self, Self::Verdict { outcome, .. } if outcome.exit() == Exit::Pass)
    }
}

/// Gives numbers to the looks at one set: a new one to each that tells something new.
#[derive(Default)]
struct Numbering {
    n_uses: u32,
    /// Predictions whose numbers were shown.
    numbers: BTreeMap<Digest, u32>,
    /// Predictions of which an outcome was shown, with the gate and policy that gave it.
    outcomes: BTreeMap<(Digest, String, Digest), u32>,
}

impl Numbering {
    /// The number that a look would have.
    fn of(&self, predictions: Digest, asked: Option<(&str, Digest)>) -> u32 {
        let outcome = asked
            .and_then(|(gate, policy)| self.outcomes.get(&(predictions, gate.to_owned(), policy)));
        self.numbers.get(&predictions).or(outcome).copied().unwrap_or(self.n_uses + 1)
    }

    /// The number that `entry` has, which comes next.
    fn number(&mut self, entry: &LedgerEntry) -> u32 {
        let asked = match &entry.look {
            Look::Verdict { gate, policy, .. } => Some((gate.as_str(), *policy)),
            Look::Comparison => None,
        };
        let number = self.of(entry.predictions, asked);
        self.n_uses = self.n_uses.max(number);
        match (entry.reveal, asked) {
            (Reveal::Verdict, Some((gate, policy))) => {
                let shown = (entry.predictions, gate.to_owned(), policy);
                self.outcomes.entry(shown).or_insert(number);
            }
            (Reveal::Numbers, _) | (_, None) => {
                self.numbers.entry(entry.predictions).or_insert(number);
            }
        }
        number
    }
}

impl Store {
    /// The ledger, after checking that nobody has changed it.
    pub fn ledger(&self) -> Result<Ledger, StoreError> {
        let (ledger, problem) = self.look(ledger_in)?;
        // The newest verdict names what its entry must follow: with the chain, that vouches for every entry before. One
        // that cannot be read is made again by the same gate, and is no reason to stop it.
        let newest = || {
            let readable = |it| Some((it, self.verdict(&LedgerEntry::verdict(it)?).ok()?));
            let (entry, verdict) = ledger.entries.iter().rev().find_map(readable)?;
            contradiction(entry, &verdict)
        };
        match problem.or_else(newest) {
            Some(reason) => Err(StoreError::LedgerBroken { reason }),
            None => Ok(ledger),
        }
    }

    /// How often an evaluation set was used: see [`Ledger`] for what a use is.
    pub fn ledger_uses(&self, eval_set: Digest) -> Result<u32, StoreError> {
        Ok(self.ledger()?.n_uses(eval_set))
    }

    /// Records that the numbers of several predictions on one evaluation set are about to be shown without a gate.
    /// What has been shown before is not recorded again.
    pub fn record_comparison(
        &self,
        eval_set: Digest,
        compared: &[(Digest, String)],
        actor: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let is_new = |ledger: &Ledger, predictions: Digest| {
            !ledger
                .of_set(eval_set)
                .any(|it| it.predictions == predictions && it.reveal == Reveal::Numbers)
        };
        let ledger = self.ledger()?;
        if !compared.iter().any(|(predictions, _)| is_new(&ledger, *predictions)) {
            return Ok(());
        }
        self.commit(|tx| {
            for (predictions, candidate) in compared {
                let ledger = Ledger { entries: entries_in(tx)? };
                if is_new(&ledger, *predictions) {
                    append(
                        tx,
                        LedgerEntry {
                            eval_set,
                            predictions: *predictions,
                            candidate: candidate.clone(),
                            look: Look::Comparison,
                            reveal: Reveal::Numbers,
                            actor: actor.to_owned(),
                            at: now,
                            ..LedgerEntry::blank()
                        },
                    )?;
                }
            }
            Ok(())
        })
    }
}

impl LedgerEntry {
    /// The verdict that was shown.
    #[must_use]
    pub const fn verdict(&self) -> Option<Digest> {
        match &self.look {
            Look::Verdict { digest, .. } => Some(*digest),
            Look::Comparison => None,
        }
    }

    /// What its verdict names.
    pub(crate) fn place(&self) -> Option<LedgerUse> {
        let Look::Verdict { n_allowed, .. } = self.look else { return None };
        let Self { n_uses, reveal, previous, .. } = *self;
        Some(LedgerUse { n_uses, n_allowed, reveal, previous })
    }

    /// Before its values are known.
    const fn blank() -> Self {
        Self {
            seq: 0,
            eval_set: GENESIS,
            predictions: GENESIS,
            candidate: String::new(),
            look: Look::Comparison,
            reveal: Reveal::Numbers,
            actor: String::new(),
            at: Timestamp(0),
            n_uses: 0,
            previous: GENESIS,
            hash: GENESIS,
        }
    }

    /// What showing `verdict` is.
    fn of(verdict: &Verdict, digest: Digest, actor: &str, at: Timestamp) -> Self {
        let place = verdict.ledger.as_ref();
        Self {
            eval_set: verdict.judged.rows,
            predictions: verdict.judged.predictions,
            candidate: verdict.candidate.clone(),
            look: Look::Verdict {
                digest,
                gate: verdict.gate.clone(),
                policy: verdict.judged.policy,
                outcome: verdict.outcome,
                n_allowed: place.and_then(|it| it.n_allowed),
            },
            reveal: place.map_or(Reveal::Numbers, |it| it.reveal),
            actor: actor.to_owned(),
            at,
            ..Self::blank()
        }
    }
}

/// Hash of the newest entry.
pub(crate) fn head_in(connection: &Connection) -> Result<Digest, StoreError> {
    let sql = "SELECT hash FROM ledger ORDER BY seq DESC LIMIT 1";
    let found = connection.query_row(sql, (), |row| Ok(row.get::<_, Text<Digest>>(0)?.0));
    Ok(found.optional()?.unwrap_or(GENESIS))
}

/// Records that `verdict` is about to be shown.
pub(crate) fn append_verdict(
    connection: &Connection,
    verdict: &Verdict,
    digest: Digest,
    actor: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    append(connection, LedgerEntry::of(verdict, digest, actor, now))
}

/// Puts `entry` at the end of the chain; its own place in it is not looked at.
fn append(connection: &Connection, mut entry: LedgerEntry) -> Result<(), StoreError> {
    let last: i64 =
        connection.query_row("SELECT COALESCE(MAX(seq), 0) FROM ledger", (), |row| row.get(0))?;
    entry.seq = uint(last) + 1;
    entry.previous = head_in(connection)?;
    entry.hash = entry.hash_of();
    let (gate, policy, verdict, outcome, n_allowed) = match &entry.look {
        Look::Verdict { digest, gate, policy, outcome, n_allowed } => {
            (Some(gate), Some(Text(policy)), Some(Text(digest)), Some(Word(*outcome)), *n_allowed)
        }
        Look::Comparison => (None, None, None, None, None),
    };
    connection.execute(
        "INSERT INTO ledger (seq, eval_set, predictions, candidate, gate, policy, verdict, outcome, n_allowed,
             reveal, actor, at, previous, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        rusqlite::params![
            int(entry.seq),
            Text(entry.eval_set),
            Text(entry.predictions),
            entry.candidate,
            gate,
            policy,
            verdict,
            outcome,
            n_allowed,
            Word(entry.reveal),
            entry.actor,
            entry.at.0,
            Text(entry.previous),
            Text(entry.hash),
        ],
    )?;
    Ok(())
}

/// The ledger, and what shows that it is not what was written. A store of form 1, which was only opened to look at since,
/// has none.
fn ledger_in(connection: &Connection) -> Result<(Ledger, Option<String>), StoreError> {
    let form: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if form < LEDGER_SINCE {
        return Ok((Ledger::default(), None));
    }
    let ledger = Ledger { entries: entries_in(connection)? };
    let problem = first_problem(connection, &ledger)?;
    Ok((ledger, problem))
}

/// Every entry with its number.
fn entries_in(connection: &Connection) -> Result<Vec<LedgerEntry>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT * FROM ledger ORDER BY seq")?;
    let rows = statement.query_map((), entry_of)?;
    let mut entries = rows.collect::<Result<Vec<_>, _>>()?;
    let mut sets: BTreeMap<Digest, Numbering> = BTreeMap::new();
    for entry in &mut entries {
        entry.n_uses = sets.entry(entry.eval_set).or_default().number(entry);
    }
    Ok(entries)
}

fn entry_of(row: &Row<'_>) -> rusqlite::Result<LedgerEntry> {
    let look = match row.get::<_, Option<Text<Digest>>>("verdict")? {
        None => Look::Comparison,
        // The table's own rules allow no other combination.
        Some(digest) => Look::Verdict {
            digest: digest.0,
            gate: row.get("gate")?,
            policy: row.get::<_, Text<Digest>>("policy")?.0,
            outcome: row.get::<_, Word<Outcome>>("outcome")?.0,
            n_allowed: row.get("n_allowed")?,
        },
    };
    Ok(LedgerEntry {
        seq: uint(row.get("seq")?),
        eval_set: row.get::<_, Text<Digest>>("eval_set")?.0,
        predictions: row.get::<_, Text<Digest>>("predictions")?.0,
        candidate: row.get("candidate")?,
        look,
        reveal: row.get::<_, Word<Reveal>>("reveal")?.0,
        actor: row.get("actor")?,
        at: Timestamp(row.get("at")?),
        n_uses: 0,
        previous: row.get::<_, Text<Digest>>("previous")?.0,
        hash: row.get::<_, Text<Digest>>("hash")?.0,
    })
}

/// What shows that the ledger is not what was written, as far as the database itself tells.
fn first_problem(connection: &Connection, ledger: &Ledger) -> Result<Option<String>, StoreError> {
    if let Some(at) = first_break(&ledger.entries) {
        return Ok(Some(format!(
            "entry {at} was changed after the fact, or one before it is gone"
        )));
    }
    let count = |sql| connection.query_row(sql, (), |row| row.get(0).map(uint));
    let n_given = count("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'ledger'")?;
    let n_entries = ledger.entries.len() as u64;
    if n_given != n_entries {
        return Ok(Some(format!("{n_entries} entries are left of {n_given}")));
    }
    let n_unlisted = count(
        "SELECT count(*) FROM (
             SELECT digest FROM verdict
             UNION SELECT digest FROM run_output JOIN run ON run.id = run WHERE step = 'gate' AND name = 'verdict.json'
         ) WHERE digest NOT IN (SELECT verdict FROM ledger WHERE verdict IS NOT NULL)",
    )?;
    Ok((0 < n_unlisted).then(|| format!("{n_unlisted} verdicts on record have no entry")))
}

/// Everything that shows that the ledger is not what was written, for `verify`.
pub(crate) fn check(store: &Store, problems: &mut Vec<String>) -> Result<(), StoreError> {
    let (ledger, problem) = store.look(ledger_in)?;
    problems.extend(problem.map(|it| format!("ledger: {it}")));
    for (entry, digest) in ledger.entries.iter().filter_map(|it| Some((it, it.verdict()?))) {
        // A verdict that cannot be read is reported as the damaged object it is.
        if let Ok(verdict) = store.verdict(&digest)
            && let Some(reason) = contradiction(entry, &verdict)
        {
            problems.push(format!("ledger: {reason}"));
        }
    }
    Ok(())
}

/// How an entry and the verdict it is about disagree.
fn contradiction(entry: &LedgerEntry, verdict: &Verdict) -> Option<String> {
    let expected = LedgerEntry {
        seq: entry.seq,
        n_uses: entry.n_uses,
        previous: entry.previous,
        hash: entry.hash,
        ..LedgerEntry::of(verdict, entry.verdict()?, &entry.actor, entry.at)
    };
    // A verdict older than the ledger names no entry.
    let follows = verdict.ledger.as_ref().is_none_or(|it| it.previous == entry.previous);
    (*entry != expected || !follows)
        .then(|| format!("entry {} is not the one that its verdict was recorded with", entry.seq))
}

/// Begins the ledger of a store that has verdicts already: each of them was shown.
pub(crate) fn begin(connection: &Connection, dir: &Path) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare("SELECT digest, gate, outcome, created_at FROM verdict ORDER BY seq")?;
    let rows = statement.query_map((), |row| {
        let (gate, outcome) = (row.get("gate")?, row.get::<_, Word<Outcome>>("outcome")?.0);
        let digest = row.get::<_, Text<Digest>>("digest")?.0;
        Ok((digest, gate, outcome, Timestamp(row.get("created_at")?)))
    })?;
    for row in rows {
        let (digest, gate, outcome, at) = row?;
        let verdict = read_object(dir, &digest)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Verdict>(&bytes).ok());
        let entry = match verdict {
            Some(verdict) => LedgerEntry::of(&verdict, digest, BEFORE_THE_LEDGER, at),
            // Nobody can say which set a lost verdict was about; that there was one is kept.
            None => LedgerEntry {
                look: Look::Verdict { digest, gate, policy: GENESIS, outcome, n_allowed: None },
                actor: BEFORE_THE_LEDGER.to_owned(),
                at,
                ..LedgerEntry::blank()
            },
        };
        append(connection, entry)?;
    }
    Ok(())
}
