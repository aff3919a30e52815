//! Every environment variable that is read, the clock, and what the system says of this process. Nothing else in the
//! workspace looks at them.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::Command,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

use karat_core::{Digest, Host, Timestamp, summary::CodeVersion};
use karat_track::Secret;

pub(crate) mod ci;

/// Any value switches colour off (<https://no-color.org>).
pub(crate) const NO_COLOR: &str = "NO_COLOR";
/// Who acts, for histories; else `USER`.
pub(crate) const ACTOR: &str = "KARAT_ACTOR";
/// The person at the machine.
pub(crate) const USER: &str = "USER";
/// The person whose change GitHub is running.
pub(crate) const GITHUB_ACTOR: &str = "GITHUB_ACTOR";
/// Where an MLflow server is, for whoever sets no `--track`.
pub(crate) const MLFLOW_URI: &str = "MLFLOW_TRACKING_URI";
/// Token for it.
pub(crate) const MLFLOW_TOKEN: &str = "MLFLOW_TRACKING_TOKEN";
/// Name for it, where there is no token.
pub(crate) const MLFLOW_USERNAME: &str = "MLFLOW_TRACKING_USERNAME";
/// Password of that name.
pub(crate) const MLFLOW_PASSWORD: &str = "MLFLOW_TRACKING_PASSWORD";

/// Seconds since 1970 that stand for every time in what is signed, so that signing again gives the same bytes
/// (<https://reproducible-builds.org/specs/source-date-epoch/>).
pub(crate) const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Whose machine GitHub runs this on: `github-hosted` or `self-hosted`.
pub(crate) const RUNNER_ENVIRONMENT: &str = "RUNNER_ENVIRONMENT";
/// `true` under CI systems.
pub(crate) const CI: &str = "CI";

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn read(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether colour is unwanted.
pub(crate) fn no_color() -> bool {
    read(NO_COLOR).is_some()
}

/// Who acts.
pub(crate) fn actor() -> String {
    [ACTOR, GITHUB_ACTOR, USER].into_iter().find_map(read).unwrap_or_else(|| "unknown".to_owned())
}

/// Address of an MLflow server, as its own clients read it.
pub(crate) fn mlflow_uri() -> Option<String> {
    read(MLFLOW_URI)
}

/// Who we are to an MLflow server: a token, else a name and a password.
pub(crate) fn mlflow_credentials() -> (Option<Secret>, Option<(String, Secret)>) {
    let password = read(MLFLOW_PASSWORD).map(Secret::new);
    (read(MLFLOW_TOKEN).map(Secret::new), read(MLFLOW_USERNAME).zip(password))
}

/// The time.
#[expect(clippy::disallowed_methods, reason = "this is the one place that looks at the clock")]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// What the CPU and this executable are; nothing where the system does not tell.
pub(crate) fn host() -> Host {
    let executable = std::env::current_exe().and_then(fs::read);
    Host {
        processor: processor(),
        binary: executable.ok().map(|bytes| Digest::of(&bytes)),
        runner: runner(),
    }
}

/// Whose machine this is, when CI runs it. Only GitHub tells; elsewhere nobody vouches that it is lent for one run.
fn runner() -> Option<String> {
    match read(RUNNER_ENVIRONMENT).as_deref() {
        Some("github-hosted") => Some("hosted".to_owned()),
        Some(_) => Some("self-hosted".to_owned()),
        None => read(CI).filter(|it| it == "true").map(|_| "self-hosted".to_owned()),
    }
}

/// The time that stands for every time, where somebody set one.
pub(crate) fn source_date_epoch() -> Option<Timestamp> {
    let seconds: i64 = read(SOURCE_DATE_EPOCH)?.trim().parse().ok()?;
    seconds.checked_mul(1000).map(Timestamp)
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Largest resident memory of this process so far, bytes; only Linux tells.
pub(crate) fn peak_memory() -> Option<u64> {
    status_line("VmHWM:")
}

/// Resident memory of this process now, bytes; only Linux tells.
pub(crate) fn resident_memory() -> Option<u64> {
    status_line("VmRSS:")
}

/// Time since the first look; never set back.
pub(crate) fn stopwatch() -> Duration {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    STARTED.elapsed()
}

/// One line of `/proc/self/status`, as bytes.
fn status_line(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The git state of `dir`; empty outside a work tree or without git.
pub(crate) fn code_version(dir: &Path) -> CodeVersion {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(dir).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "HEAD"]).filter(|it| it.len() == 40) else {
        return CodeVersion::default();
    };
    let is_dirty = git(&["status", "--porcelain", "--untracked-files=no"]).map(|it| !it.is_empty());
    CodeVersion { commit: Some(commit), is_dirty, dvc: None }
}

/// A word that nobody can foresee, for marking off text from others.
pub(crate) fn unforeseen_word() -> String {
    let mut bytes = [0_u8; 32];
    let is_random =
        fs::File::open("/dev/urandom").and_then(|mut it| it.read_exact(&mut bytes)).is_ok();
    if !is_random {
        // Not a secret, but other every time.
        bytes = *Digest::of(format!("{} {}", now().0, std::process::id()).as_bytes()).as_bytes();
    }
    Digest::of(&bytes).hex()[..32].to_owned()
}
