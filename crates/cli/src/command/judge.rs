//! `karat judge`: a verdict that nobody has to believe. A job that runs a change's code can write what it likes; this looks
//! at what it left as at an attacker's files, and works the verdict out again from the predictions.
//!
//! What is believed: this checkout's policy, project and schema, and the change's commit as git has it. What is compared:
//! the verdict, with the digests of what it names and with the one worked out here. What cannot be known here is whether
//! the predictions are the model's: that is why promotion judges again, on what was merged (docs/ci.md).
//!
//! Reading order: [`run`], [`Artifact`], [`refuse_replay`], [`again`].

use std::{collections::BTreeMap, fs, path::Path};

use karat_core::{
    Digest, Exit, Failure, Finding, ModelRef, Project, ScoredRows, Snapshot, Verdict,
    policy::Gate,
    port::Tables as _,
    summary::{DataSummary, RunSummary},
};
use karat_gate::GateInput;
use karat_pipeline::{change, exit_of, pick_gate};
use karat_table::ArrowTables;
use serde_json::json;

use super::{
    ci::{
        base::{Base, Words},
        write::{self, MADE, Made},
    },
    run::or_warn,
};
use crate::{
    args::JudgeArgs,
    context::{POLICY_FILE, PROJECT_FILE, Rayon, Session, TOOL},
    env,
    git::Repository,
    render::summary,
};

/// Files that an artifact may hold.
const FILES_MAX: usize = 64;
/// Bytes of all of them.
const BYTES_MAX: u64 = 2 << 30;
/// Bytes of `verdict.json`.
const VERDICT_BYTES_MAX: u64 = 16 << 20;
/// Bytes of `ci.json`.
const MADE_BYTES_MAX: u64 = 1 << 16;
/// Findings of one verdict.
const FINDINGS_MAX: usize = 100_000;

const VERDICT: &str = "verdict.json";
const CANDIDATE: &str = "predictions.parquet";
const BASELINE: &str = "baseline-predictions.parquet";
const ANCHOR: &str = "anchor-predictions.parquet";

pub(crate) fn run(session: &Session, args: &JudgeArgs) -> Result<Exit, Failure> {
    let artifact = Artifact::take(&session.path(&args.artifact))?;
    let policy_document = session.policy_document()?;
    let policy = &policy_document.0;
    let gate = pick_gate(policy, args.gate.as_ref())?;
    let claimed = &artifact.verdict;
    if claimed.judged.policy != policy.digest || claimed.gate != gate.name.as_str() {
        return Err(Failure::new(
            "verdict-outdated",
            Exit::Fail,
            format!(
                "the artifact's verdict is of gate `{}` under policy {}, here is gate `{}` under policy {}",
                shown(&claimed.gate),
                claimed.judged.policy.short(),
                gate.name,
                policy.digest.short()
            ),
        )
        .hint("the change was judged under another gate.toml than this branch has: run its job again"));
    }
    let (project, snapshot, findings) = refuse_replay(session, args, &artifact.made, claimed)?;
    let verdict = again(session, gate, &artifact)?;
    refuse_forgery(claimed, &verdict)?;

    let exit = exit_of(&verdict);
    let digest = Digest::of(&artifact.verdict_bytes);
    if artifact.made.verdict != digest {
        return Err(refused(format!("`{MADE}` is about another verdict than `{VERDICT}`")));
    }
    let summary = RunSummary {
        version: 1,
        project: project.name.to_string(),
        tool: TOOL.to_owned(),
        code: claimed.judged.code.clone(),
        data: DataSummary {
            snapshot: snapshot.label(),
            digest: snapshot.digest(),
            n_files: snapshot.files.len() as u64,
            n_rows: snapshot.n_rows,
            splits: Vec::new(),
        },
        checks: findings,
        train: None,
        verdict: Some(verdict),
        verdict_digest: Some(digest),
        promotion: None,
    };
    if let Some(out) = &args.out {
        let repository = Repository::of(session.root())?;
        let places = karat_report::Places {
            policy: format!("{}{POLICY_FILE}", repository.prefix),
            project: format!("{}{PROJECT_FILE}", repository.prefix),
            lines: write::rule_lines(&policy_document.1, policy),
        };
        let done = write::write_all(&session.path(out), &write::all(&summary, &places, None));
        let _ = or_warn(session, "`--out`", done);
    }
    session.json(&json!({ "event": "judge_finished", "exit": exit.code(), "summary": summary }));
    let paint = session.with_screen(|screen| screen.stdout_paint());
    session.text(&summary::render(&summary, None, &[], paint));
    Ok(exit)
}

/// What the job left, as far as it may be looked at.
struct Artifact {
    made: Made,
    verdict: Verdict,
    verdict_bytes: Vec<u8>,
    candidate: std::path::PathBuf,
    baseline: Option<std::path::PathBuf>,
    anchor: Option<std::path::PathBuf>,
}

fn refused(message: String) -> Failure {
    Failure::new("artifact-refused", Exit::Fail, message)
        .detail("the artifact comes from a job that ran the change: it is looked at as an attacker's would be")
}

/// Names come from outside: one line, and short.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

impl Artifact {
    /// Plain files in one folder, few and small, with digests as the verdict says. No name of theirs becomes a path.
    fn take(folder: &Path) -> Result<Self, Failure> {
        let unreadable = |error: std::io::Error| {
            refused(format!("cannot read `{}`", folder.display())).because(&error)
        };
        let (mut n_files, mut n_bytes) = (0, 0);
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Not following links.
            let metadata = entry.metadata().map_err(unreadable)?;
            if !metadata.is_file() {
                return Err(refused(format!("`{}` is not a plain file", shown(&name))));
            }
            n_files += 1;
            n_bytes += metadata.len();
            if FILES_MAX < n_files {
                return Err(refused(format!("it has more than {FILES_MAX} files")));
            }
            if BYTES_MAX < n_bytes {
                return Err(refused(format!("it has more than {BYTES_MAX} bytes")));
            }
        }
        let made: Made = serde_json::from_slice(&bytes(&folder.join(MADE), MADE, MADE_BYTES_MAX)?)
            .map_err(|error| {
                refused(format!("`{MADE}` is not what `karat ci` writes")).because(&error)
            })?;
        let path = folder.join(VERDICT);
        let verdict_bytes = bytes(&path, VERDICT, VERDICT_BYTES_MAX)?;
        let verdict: Verdict = serde_json::from_slice(&verdict_bytes).map_err(|error| {
            refused(format!("`{VERDICT}` is no verdict that this build reads")).because(&error)
        })?;
        if verdict.version != 1 || FINDINGS_MAX < verdict.findings.len() {
            return Err(refused(format!(
                "`{VERDICT}` has version {} and {} findings, read are version 1 and at most {FINDINGS_MAX}",
                verdict.version,
                verdict.findings.len()
            )));
        }
        for label in [Some(&verdict.candidate), Some(&verdict.baseline), verdict.anchor.as_ref()]
            .into_iter()
            .flatten()
        {
            let is_word = ["none", "naive"].contains(&label.as_str());
            if !is_word && label.parse::<ModelRef>().is_err() {
                return Err(refused(format!(
                    "`{VERDICT}` names `{}`, which is no version",
                    shown(label)
                )));
            }
        }
        let judged = &verdict.judged;
        let file = |name: &'static str, digest: Digest| {
            let path = folder.join(name);
            let found = Digest::of(&bytes(&path, name, BYTES_MAX)?);
            if found == digest {
                return Ok(path);
            }
            Err(refused(format!(
                "`{name}` has digest {}, the verdict names {}",
                found.short(),
                digest.short()
            )))
        };
        let candidate = file(CANDIDATE, judged.predictions)?;
        let baseline = judged.baseline_predictions.map(|it| file(BASELINE, it)).transpose()?;
        let anchor = judged.anchor_predictions.map(|it| file(ANCHOR, it)).transpose()?;
        Ok(Self { made, verdict, verdict_bytes, candidate, baseline, anchor })
    }
}

fn bytes(path: &Path, name: &'static str, n_max: u64) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |error: std::io::Error| refused(format!("it has no readable `{name}`")).because(&error);
    let n_bytes = fs::symlink_metadata(path).map_err(unreadable)?.len();
    if n_max < n_bytes {
        return Err(refused(format!("`{name}` has {n_bytes} bytes, at most {n_max} are read")));
    }
    fs::read(path).map_err(unreadable)
}

/// The commit that was to be judged says what data that is, in the base's words; a verdict about another commit or other
/// data is an old one, or another's.
fn refuse_replay(
    session: &Session,
    args: &JudgeArgs,
    made: &Made,
    claimed: &Verdict,
) -> Result<(Project, Snapshot, Vec<Finding>), Failure> {
    let repository = Repository::of(session.root())?;
    let commit = repository.commit(&args.commit)?.ok_or_else(|| {
        Failure::new(
            "base-unreachable",
            Exit::Usage,
            format!("commit `{}` is not in this clone", shown(&args.commit)),
        )
        .hint("`git fetch origin SHA` brings its objects; it need not be checked out")
    })?;
    let replayed = |message: String| {
        Failure::new("verdict-replayed", Exit::Fail, message)
            .hint("run the change's job again; its artifact is then about this commit")
    };
    if made.commit != commit {
        return Err(replayed(format!(
            "the artifact is about commit {}, asked was {}",
            shown(&made.commit).chars().take(8).collect::<String>(),
            &commit[..8]
        )));
    }
    let base = Base { commit: commit.clone(), name: "the change".to_owned() };
    let words = Words { repository: &repository, base: &base };
    let own = session.project()?;
    let (project, mut findings) = match words.project()? {
        Some(theirs) => change::project_under_base(&own, &theirs)?,
        None => (own, Vec::new()),
    };
    let dataset = project.dataset(&project.train.dataset)?;
    let schema = session.schema(&project, &dataset.name)?;
    let schema = match words.schema(&dataset.schema)? {
        Some(theirs) => {
            let (schema, edits) = change::schema_under_base(&schema, &theirs);
            findings.extend(edits);
            schema
        }
        None => schema,
    };
    let pointer = words.pointer(&dataset.name)?.ok_or_else(|| {
        replayed(format!(
            "commit {} has no `snapshots/{}.toml`: nothing says which data was to be judged",
            &commit[..8],
            dataset.name
        ))
        .hint("`karat snapshot` writes it; committed, it is the change of data")
    })?;
    let snapshot = pointer.snapshot(&dataset.name, schema.digest());
    if snapshot.digest() != claimed.judged.snapshot {
        return Err(replayed(format!(
            "the artifact's verdict is about snapshot {}, commit {} points to {}",
            claimed.judged.snapshot.short(),
            &commit[..8],
            snapshot.digest().short()
        )));
    }
    let here = repository.commit("HEAD")?.map(|commit| Base { commit, name: "HEAD".to_owned() });
    if let Some(base) = here {
        let before = Words { repository: &repository, base: &base }.pointer(&dataset.name)?;
        if let Some(before) = before {
            let mut finding = change::data_since_base(
                &before.snapshot(&dataset.name, schema.digest()),
                &snapshot,
            );
            if finding.outcome == karat_core::Outcome::Fail {
                if !args.data_may_change {
                    return Err(super::ci::changed_data(&finding));
                }
                finding.outcome = karat_core::Outcome::Warn;
            }
            findings.push(finding);
        }
    }
    Ok((project, snapshot, findings))
}

/// The verdict, from the predictions.
fn again(session: &Session, gate: &Gate, artifact: &Artifact) -> Result<Verdict, Failure> {
    let scratch = std::env::temp_dir();
    let tables = ArrowTables::new(session.n_threads(), scratch);
    let read = |path: &Path| {
        tables
            .read_scored(path)
            .map_err(|failure| refused(format!("predictions cannot be read: {}", failure.message)))
    };
    let claimed = &artifact.verdict;
    let candidate = read(&artifact.candidate)?;
    let baseline = artifact.baseline.as_deref().map(read).transpose()?;
    let anchor = artifact.anchor.as_deref().map(read).transpose()?;
    let rows = |what: &str, rows: &ScoredRows| {
        if rows.rows == claimed.judged.rows {
            return Ok(());
        }
        Err(refused(format!("the {what}'s predictions are about other rows than the verdict says")))
    };
    rows("candidate", &candidate)?;
    baseline.as_ref().map_or(Ok(()), |it| rows("baseline", it))?;
    anchor.as_ref().map_or(Ok(()), |it| rows("anchor", it))?;
    // What was measured on the job's machine can only be repeated there.
    let mut operational = BTreeMap::new();
    for rule in &gate.operational {
        let word = rule.measure.to_string();
        let value = claimed.operational.get(&word).copied();
        let value = value.ok_or_else(|| "the artifact's verdict does not have it".to_owned());
        operational.insert(rule.measure, value);
    }
    let is_within =
        |it: &karat_core::verdict::LedgerUse| it.n_allowed.is_none_or(|max| it.n_uses <= max);
    let today: String = env::now().to_string().chars().take(10).collect();
    let input = GateInput {
        baseline: baseline.as_ref(),
        candidate_label: claimed.candidate.clone(),
        baseline_label: claimed.baseline.clone(),
        anchor: anchor.as_ref(),
        anchor_label: claimed.anchor.clone().unwrap_or_else(|| "none".to_owned()),
        operational,
        budget_left: claimed.ledger.as_ref().is_none_or(is_within),
        ..GateInput::new(&candidate, claimed.judged.clone(), &today)
    };
    let _ = rayon::ThreadPoolBuilder::new().num_threads(session.n_threads()).build_global();
    let mut verdict = karat_gate::decide(gate, &input, &Rayon);
    verdict.ledger.clone_from(&claimed.ledger);
    Ok(verdict)
}

/// The claimed verdict says what its predictions say.
fn refuse_forgery(claimed: &Verdict, found: &Verdict) -> Result<(), Failure> {
    let answers = |verdict: &Verdict| -> Vec<(String, String, karat_core::Outcome)> {
        verdict
            .findings
            .iter()
            .map(|it| (it.rule.clone(), it.subject.clone(), it.outcome))
            .collect()
    };
    let (theirs, ours) = (answers(claimed), answers(found));
    if claimed.outcome == found.outcome && theirs == ours {
        return Ok(());
    }
    let mut failure = Failure::new(
        "verdict-forged",
        Exit::Fail,
        format!(
            "the artifact's verdict says {}, its predictions say {}",
            claimed.outcome.word(),
            found.outcome.word()
        ),
    );
    for (rule, subject, outcome) in ours.iter().filter(|it| !theirs.contains(it)).take(20) {
        failure = failure.detail(format!("{rule}: {subject}: {}", outcome.word()));
    }
    Err(failure.hint("nothing of this artifact is shown or used; look at how it was made"))
}
