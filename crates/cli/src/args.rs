//! The command line as typed. Flags mean the same everywhere.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::RangedU64ValueParser, value_parser};
use karat_core::{
    ModelRef, Name,
    metric::{Metric, UnknownMetric},
    project::{MAX_TIME_SECONDS, THREADS_MAX},
    time::parse_seconds,
};

/// Train models and score data behind gates: only what passes gets promoted
///
/// A change of data goes through the same gates as a change of code: snapshot, check, train, score, gate, promote or
/// roll back. State lies in `.karat/` beside `karat.toml`; there is no server.
#[derive(Parser, Debug)]
#[command(name = "karat", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 pass, 1 a check or gate failed, 2 usage or configuration, 3 run or \
infrastructure, 4 inconclusive, 5 nothing to check, 75 stopped after a durable checkpoint, 130 and 143 ended by a signal."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: GlobalFlags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Rows that may be handed to the device at once.
const SCORE_BATCH_MAX: i64 = 1 << 20;

/// Flags of every command.
#[derive(Args, Debug, Clone)]
pub(crate) struct GlobalFlags {
    /// Run as if started in DIR, the folder of `karat.toml`
    #[arg(
        short = 'C',
        value_name = "DIR",
        default_value = ".",
        global = true,
        hide_default_value = true
    )]
    pub(crate) dir: PathBuf,
    /// Write events as JSON lines to stdout instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say only the result and what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more: every finding, every checkpoint
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Override one key of `karat.toml` (`train.epochs=2`) or, with the prefix `gate.`, of `gate.toml`
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub(crate) set: Vec<String>,
    /// Device to compute on, instead of `train.device`: `cpu`, `wgpu[:n]`, `vulkan[:n]`, `cuda[:n]`, or `auto` for the best
    /// that works; `doctor` also takes `all`
    #[arg(long, value_name = "DEVICE", global = true)]
    pub(crate) device: Option<String>,
    /// Threads to compute with, instead of all cores; the results' bits do not depend on it
    #[arg(
        long,
        value_name = "N",
        global = true,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=THREADS_MAX)
    )]
    pub(crate) threads: Option<usize>,
    /// Refuse what cannot keep the run's reproducibility, instead of recording it
    #[arg(long, global = true)]
    pub(crate) deterministic: bool,
    /// Leave out the comparison with `cpu` that training on a GPU begins with; recorded
    #[arg(long, global = true)]
    pub(crate) no_probe: bool,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Look at a data file and write a commented `karat.toml`, `gate.toml` and schema
    Init(InitArgs),
    /// Do everything: snapshot, check, train, score, gate, register, promote; cached steps are skipped
    Run(RunArgs),
    /// Do everything for a change under review: judged by the base branch's policy, reported wherever the CI system looks;
    /// nothing is promoted
    Ci(CiArgs),
    /// Judge again what a job that nobody trusts has left: from its predictions, by this checkout's policy
    Judge(JudgeArgs),
    /// Freeze a dataset and update its pointer file
    Snapshot(SnapshotArgs),
    /// Ask the checks of a dataset; the exit code says
    Check(CheckArgs),
    /// Train a candidate and register it
    Train(TrainArgs),
    /// Score files with a registered model
    Score(ScoreArgs),
    /// Show two versions side by side on the same rows, without a verdict
    Compare(CompareArgs),
    /// Judge a candidate; the exit code is the verdict
    Gate(GateArgs),
    /// Say how many labelled rows a comparison needs, and which rows are worth a label
    PlanEval(PlanEvalArgs),
    /// Move an alias to a version that passed its gate
    Promote(PromoteArgs),
    /// Move an alias back to the version that held it before
    Rollback(RollbackArgs),
    /// Train a run once more from its record and say whether the bits are the same
    Replay(ReplayArgs),
    /// List runs, newest first
    Runs(RunsArgs),
    /// Show a run, a model version, a snapshot or a verdict
    Show(ShowArgs),
    /// List aliases, or the history of one
    Alias(AliasArgs),
    /// Show the store as pages for a browser on this machine, until Ctrl-C; reads only
    Ui(UiArgs),
    /// Show how often each evaluation set was used, by whom, and what was shown
    Ledger,
    /// Sign a version, its verdict and its training with a key of yours
    Sign(SignArgs),
    /// Check stored bytes against their digests and records against each other; with `--key`, signatures
    Verify(VerifyArgs),
    /// Remove stored bytes that nothing names
    Gc(GcArgs),
    /// Say what works on this machine and why not; with `--device all`, how fast and how exactly
    Doctor,
    /// Answer a question about one device in a process of its own
    #[command(hide = true)]
    ProbeDevice(ProbeDeviceArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page (roff)
    Man,
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Folder of the new project
    pub(crate) project: PathBuf,
    /// Data file, directory or glob pattern
    #[arg(long, value_name = "FILE")]
    pub(crate) data: String,
    /// Column to predict
    #[arg(long, value_name = "COLUMN")]
    pub(crate) label: String,
    /// Name of dataset and model; by default the folder's
    #[arg(long)]
    pub(crate) name: Option<Name>,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Gate to judge by, when `gate.toml` has several; without it the one called `release`
    #[arg(long, value_name = "GATE")]
    pub(crate) gate: Option<Name>,
    /// Copy every artifact of the run to DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Judge, but leave the alias as it is
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Private key (PEM) that signs a candidate which passes, before the alias moves
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub(crate) key: Option<PathBuf>,
    /// End training after TIME (`90s`, `20m`, `1h30m`) with what it has, instead of `train.max_time`
    #[arg(long, value_name = "TIME", value_parser = max_time)]
    pub(crate) max_time: Option<u64>,
    /// Also show the run on an MLflow server: `mlflow://HOST:PORT`, `http://…` or `https://…`
    #[arg(long, value_name = "URL")]
    pub(crate) track: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct CiArgs {
    /// Gate to judge by, when the base branch's `gate.toml` has several
    #[arg(long, value_name = "GATE")]
    pub(crate) gate: Option<Name>,
    /// Commit whose policy judges, where the CI system names no base branch; by default the commit before
    #[arg(long, value_name = "REF")]
    pub(crate) base: Option<String>,
    /// Write every report to DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Promote what passes; only on a push to the default branch
    #[arg(long)]
    pub(crate) promote: bool,
    /// Let a change alter or remove files that the base branch was judged on: its evaluation rows may then be others
    #[arg(long)]
    pub(crate) data_may_change: bool,
}

#[derive(Args, Debug)]
pub(crate) struct JudgeArgs {
    /// Folder with `verdict.json` and the predictions it names, as `karat ci --out` wrote them
    #[arg(long, value_name = "DIR")]
    pub(crate) artifact: PathBuf,
    /// Commit of the change that was judged; its objects must be in this clone, it is not checked out
    #[arg(long, value_name = "SHA")]
    pub(crate) commit: String,
    /// Gate that must have judged, when `gate.toml` has several
    #[arg(long, value_name = "GATE")]
    pub(crate) gate: Option<Name>,
    /// Write the reports, rendered again, to DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// As for `karat ci`
    #[arg(long)]
    pub(crate) data_may_change: bool,
}

/// `--max-time` in seconds.
fn max_time(text: &str) -> Result<u64, String> {
    parse_seconds(text).filter(|it| (1..=MAX_TIME_SECONDS).contains(it)).ok_or_else(|| {
        "expected a time like `90s`, `20m` or `1h30m`, at least 1 s and at most 365 days".to_owned()
    })
}

#[derive(Args, Debug)]
pub(crate) struct SnapshotArgs {
    /// Dataset; all when absent
    pub(crate) dataset: Option<Name>,
    /// Write the schema file from the data; an existing one is never overwritten
    #[arg(long)]
    pub(crate) infer_schema: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Dataset; the one trained on when absent
    pub(crate) dataset: Option<Name>,
}

#[derive(Args, Debug)]
pub(crate) struct TrainArgs {
    /// Continue this run, and fail if the configuration has changed since
    #[arg(long, value_name = "RUN")]
    pub(crate) resume: Option<String>,
    /// Continue on another device than the run began on; recorded, and the run is no longer repeatable bit for bit
    #[arg(long, requires = "resume")]
    pub(crate) allow_device_change: bool,
    /// Copy the run's artifacts to DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// End training after TIME (`90s`, `20m`, `1h30m`) with what it has, instead of `train.max_time`
    #[arg(long, value_name = "TIME", value_parser = max_time)]
    pub(crate) max_time: Option<u64>,
    /// Also show the run on an MLflow server: `mlflow://HOST:PORT`, `http://…` or `https://…`
    #[arg(long, value_name = "URL")]
    pub(crate) track: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ScoreArgs {
    /// Model, as `flights@champion` or `flights@3`; the project's champion when absent
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<ModelRef>,
    /// Files, directories or glob patterns to score
    #[arg(required = true)]
    pub(crate) input: Vec<String>,
    /// File to write: `.parquet`, `.csv` or `.jsonl`
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Rows handed to the device at once; scores do not depend on it
    #[arg(long, value_name = "ROWS", value_parser = value_parser!(u32).range(1..=SCORE_BATCH_MAX))]
    pub(crate) batch_size: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    /// First version
    pub(crate) a: ModelRef,
    /// Second version
    pub(crate) b: ModelRef,
    /// Exit with 1 when any metric differs
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Args, Debug)]
pub(crate) struct GateArgs {
    /// Gate and candidate, each optional: `release`, `flights@3`, or `release flights@3`
    #[arg(value_name = "[GATE] [CANDIDATE]", num_args = 0..=2)]
    pub(crate) what: Vec<String>,
    /// Compare with this version instead of the gate's baseline
    #[arg(long, value_name = "MODEL")]
    pub(crate) baseline: Option<ModelRef>,
    /// Also show the whole calculation of this rule: rows, counts, formulas with the numbers put in, draws
    #[arg(long, value_name = "RULE")]
    pub(crate) explain: Option<String>,
    /// Write the reports to DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Also show the run on an MLflow server: `mlflow://HOST:PORT`, `http://…` or `https://…`
    #[arg(long, value_name = "URL")]
    pub(crate) track: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct PlanEvalArgs {
    /// Gate and candidate, each optional, as for `gate`
    #[arg(value_name = "[GATE] [CANDIDATE]", num_args = 0..=2)]
    pub(crate) what: Vec<String>,
    /// The difference to see: `0.5pp` (percentage points), `0.5%`, or `0.005` in the metric's own unit
    #[arg(long, value_name = "EFFECT", value_parser = effect)]
    pub(crate) detect: f64,
    /// A loss to rule out, written like `--detect`
    #[arg(long, value_name = "EFFECT", value_parser = effect)]
    pub(crate) margin: Option<f64>,
    /// The metric that is compared
    #[arg(long, value_name = "METRIC", default_value = "accuracy", value_parser = metric)]
    pub(crate) metric: Metric,
    /// Chance of seeing the difference when it is there, instead of the gate's
    #[arg(long, value_name = "SHARE", value_parser = power)]
    pub(crate) power: Option<f64>,
    /// Share of labels that are wrong, instead of what several labels a row show
    #[arg(long, value_name = "SHARE", value_parser = label_noise)]
    pub(crate) label_noise: Option<f64>,
    /// Compare with this version instead of the gate's baseline
    #[arg(long, value_name = "MODEL")]
    pub(crate) baseline: Option<ModelRef>,
    /// Write the rows worth a label to FILE, as CSV: those that the two models predict differently, most different first
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// A difference: `0.5pp`, `0.5%`, `0.005`.
fn effect(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix("pp").or_else(|| text.strip_suffix('%')) {
        Some(number) => (number, 0.01),
        None => (text, 1.0),
    };
    let effect = number.trim().parse::<f64>().map(|it| it * unit);
    effect
        .ok()
        .filter(|it| it.is_finite() && 0.0 < *it)
        .ok_or_else(|| "must be above 0, like `0.5pp` (percentage points) or `0.005`".to_owned())
}

fn metric(text: &str) -> Result<Metric, String> {
    text.parse().map_err(|error: UnknownMetric| error.to_string())
}

/// Inside [0.5, 1): below a half, tossing a coin sees more.
fn power(text: &str) -> Result<f64, String> {
    let power = text.parse::<f64>().ok().filter(|it| (0.5..1.0).contains(it));
    power.ok_or_else(|| "must be at least 0.5 and below 1".to_owned())
}

/// Inside [0, 0.5): at a half, labels say nothing.
fn label_noise(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|it| (0.0..0.5).contains(it));
    share.ok_or_else(|| "must be at least 0 and below 0.5".to_owned())
}

#[derive(Args, Debug)]
pub(crate) struct PromoteArgs {
    /// Version to promote, as `model@version`
    pub(crate) version: ModelRef,
    /// Alias to move
    #[arg(long, default_value = karat_pipeline::CHAMPION, value_name = "ALIAS")]
    pub(crate) alias: Name,
    /// Promote without a passing verdict; recorded in the alias's history
    #[arg(long, requires = "reason")]
    pub(crate) force: bool,
    /// Why the gate was overridden
    #[arg(long, value_name = "TEXT", requires = "force")]
    pub(crate) reason: Option<String>,
    /// Also show the run on an MLflow server: `mlflow://HOST:PORT`, `http://…` or `https://…`
    #[arg(long, value_name = "URL")]
    pub(crate) track: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RollbackArgs {
    /// Model; the project's when absent
    pub(crate) model: Option<Name>,
    /// Alias to move
    #[arg(long, default_value = karat_pipeline::CHAMPION, value_name = "ALIAS")]
    pub(crate) alias: Name,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "rolled back by hand")]
    pub(crate) reason: String,
    /// Also show the run on an MLflow server: `mlflow://HOST:PORT`, `http://…` or `https://…`
    #[arg(long, value_name = "URL")]
    pub(crate) track: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    /// A training: its run (`r-4k2…`) or the version it made (`flights@1`, `flights@champion`)
    pub(crate) run: String,
    /// Pass when weights and losses differ by no more than this share; only equal bits pass without it
    #[arg(long, value_name = "SHARE", value_parser = tolerance)]
    pub(crate) tolerance: Option<f64>,
}

/// A share: 0 or more, finite.
fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share.is_finite() && 0.0 <= share => Ok(share),
        Ok(_) => Err("must be 0 or more, and finite".to_owned()),
        Err(_) => Err("must be a number such as 1e-5".to_owned()),
    }
}

#[derive(Args, Debug)]
pub(crate) struct RunsArgs {
    /// How many
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: usize,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// `r-4k2…` a run, `flights@3` a version, `flights@champion` an alias, `flights@9f3c21ab` a snapshot, or a digest
    pub(crate) what: String,
}

#[derive(Args, Debug)]
pub(crate) struct AliasArgs {
    /// `flights` for its aliases, `flights@champion` for the history of one
    pub(crate) what: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct UiArgs {
    /// Port to listen on; 0 takes any free one
    #[arg(long, default_value_t = 8741, value_name = "N")]
    pub(crate) port: u16,
    /// Listen on this address of the machine instead of loopback: there is no login, so whoever reaches it reads everything
    #[arg(long, value_name = "ADDR")]
    pub(crate) bind: Option<IpAddr>,
    /// Open the first page in the system's browser
    #[arg(long)]
    pub(crate) open: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SignArgs {
    /// Version to sign, as `model@version`
    pub(crate) version: ModelRef,
    /// Private key: a PEM file, on P-256, P-384 or P-521, not encrypted
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Write the model's folder and the documents to DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Check records and presence only, not every byte
    #[arg(long)]
    pub(crate) structure_only: bool,
    /// With `--key`: a model's folder or file, or a version as `model@version`
    #[arg(value_name = "DIR|MODEL", requires = "key", conflicts_with = "structure_only")]
    pub(crate) what: Option<String>,
    /// Public key (PEM) whose signature is asked for; may be repeated, one is enough
    #[arg(long, value_name = "FILE", requires = "what")]
    pub(crate) key: Vec<PathBuf>,
    /// The signature; by default `model.sig` in DIR, else DIR.sig
    #[arg(long, value_name = "FILE", requires = "what")]
    pub(crate) signature: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct GcArgs {
    /// Keep unnamed bytes younger than this many minutes: a run in progress may still name them
    #[arg(long, default_value_t = 60, value_name = "MINUTES")]
    pub(crate) grace: u64,
    /// Say what would go, remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ProbeDeviceArgs {
    /// `list`, `open` or `measure`
    pub(crate) question: String,
    /// A device, or for `list` an interface
    pub(crate) name: String,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Shells with completion scripts.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[expect(clippy::enum_variant_names, reason = "PowerShell is its name")]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
    Elvish,
}

/// Words people try first from other tools, answered with a pointer.
pub(crate) fn advice_for_foreign_words(error: &clap::Error) -> Option<String> {
    let word = error.get(clap::error::ContextKind::InvalidSubcommand)?.to_string();
    let ours = match word.as_str() {
        "repro" | "exp" | "pipeline" => "run",
        "pr" | "check-pr" => "ci",
        "validate" | "test" => "check",
        "evaluate" | "eval" => "gate",
        "predict" | "infer" => "score",
        "register" => "train",
        "metrics" | "diff" => "compare",
        "reproduce" | "retrain" => "replay",
        "status" | "log" | "ls" => "runs",
        "dashboard" | "serve" | "studio" => "ui",
        _ => return None,
    };
    Some(format!("\nhint: `karat {ours}` does what `{word}` does elsewhere"))
}
