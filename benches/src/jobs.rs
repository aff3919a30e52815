//! The jobs. Each measures ours and, where a Python is given, the peer right after, on the same files.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::{Value, json};

use crate::{Row, Setup};

/// Times a job is measured; the median counts.
pub(crate) const REPEATS: usize = 3;

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

pub(crate) fn seconds<T>(work: impl FnOnce() -> Result<T, String>) -> Result<(f64, T), String> {
    let started = Instant::now();
    let value = work()?;
    Ok((started.elapsed().as_secs_f64(), value))
}

/// A copy of the example without its state: nothing is cached.
pub(crate) fn fresh(setup: &Setup) -> Result<tempfile::TempDir, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    for name in ["karat.toml", "gate.toml", "schema/flights.toml"] {
        let to = folder.path().join(name);
        fs::create_dir_all(to.parent().unwrap_or(folder.path()))
            .map_err(|error| error.to_string())?;
        fs::copy(setup.flights.join(name), to).map_err(|error| format!("{name}: {error}"))?;
    }
    let data = setup.flights.join("data");
    std::os::unix::fs::symlink(&data, folder.path().join("data"))
        .map_err(|error| error.to_string())?;
    Ok(folder)
}

/// Runs a command; writes its wall seconds and its peak resident KiB to a file.
const WRAPPER: &str = "
import resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.call(sys.argv[2:])
wall = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
open(sys.argv[1], 'w').write(f'{wall} {peak}')
sys.exit(code)
";

/// Runs ours; gives the JSON events, wall seconds and peak resident bytes.
pub(crate) fn karat(
    setup: &Setup,
    dir: &Path,
    line: &[&str],
) -> Result<(Vec<Value>, f64, f64), String> {
    let peak = dir.join("peak");
    // The wrapper takes the time itself: how long a Python needs to start is not ours.
    let output = Command::new("/usr/bin/env")
        .arg("python3")
        .args(["-c", WRAPPER])
        .arg(&peak)
        .arg(&setup.karat)
        .args(line)
        .arg("--json")
        .current_dir(dir)
        .output()
        .map_err(|error| error.to_string())?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!(
            "karat {} ended with {:?}: {}",
            line.join(" "),
            output.status.code(),
            stdout.lines().last().unwrap_or_default()
        ));
    }
    let events = stdout.lines().filter_map(|it| serde_json::from_str(it).ok()).collect();
    let figures = fs::read_to_string(&peak).map_err(|error| error.to_string())?;
    let mut figures = figures.split(' ').map(|it| it.parse().unwrap_or(f64::NAN));
    let (wall, kib) = (figures.next().unwrap_or(f64::NAN), figures.next().unwrap_or(f64::NAN));
    Ok((events, wall, kib * 1024.0))
}

pub(crate) fn peer(
    setup: &Setup,
    script: &str,
    arguments: &[&str],
) -> Result<Option<Value>, String> {
    let Some(python) = &setup.python else { return Ok(None) };
    let output = Command::new(python)
        .arg(setup.peers.join(script))
        .args(arguments)
        .output()
        .map_err(|error| format!("{script}: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().rev().find(|line| line.starts_with('{'));
    line.and_then(|line| serde_json::from_str(line).ok()).map(Some).ok_or_else(|| {
        format!(
            "{script}: {}",
            String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("no result")
        )
    })
}

pub(crate) fn number(value: &Value, key: &str) -> Result<f64, String> {
    value[key].as_f64().ok_or_else(|| format!("no number `{key}` in {value}"))
}

/// The most memory this process held so far, in MB; of one job where only that is asked for.
pub(crate) fn own_peak_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|it| it.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib * 1024.0 / 1e6)
}

/// Start of the process to the last byte of `--help`.
pub(crate) fn help(setup: &Setup) -> Result<Vec<Row>, String> {
    let mut times = Vec::new();
    for _ in 0..10 {
        let run =
            || Command::new(&setup.karat).arg("--help").output().map_err(|error| error.to_string());
        times.push(seconds(run)?.0 * 1000.0);
    }
    let ms = median(times);
    Ok(vec![Row {
        job: "karat --help",
        unit: "1/s",
        ours: 1000.0 / ms,
        peer: None,
        remark: format!("{ms:.1} ms, goal under 30 ms"),
        details: json!({ "ms": ms }),
    }])
}

/// Rows per second of the training loop alone: from the throughput log of the run. As the peer, it trains on all of January
/// to June, but for one day that stands for the eval split.
pub(crate) fn train(setup: &Setup) -> Result<Vec<Row>, String> {
    let data = setup.flights.join("data");
    let mut rows = Vec::new();
    for batch in ["1024", "4096"] {
        let mut ours = Vec::new();
        let mut auc = Value::Null;
        let mut peak = 0.0;
        for _ in 0..REPEATS {
            let trained = train_once(setup, batch, &[])?;
            (auc, peak) = (trained.auc, trained.peak);
            ours.push(trained.rows_per_s);
        }
        let found = peer(
            setup,
            "train_flights_torch.py",
            &["--data", &data.display().to_string(), "--batch", batch, "--epochs", "5"],
        )?;
        let compared = match &found {
            Some(found) => Some(("PyTorch eager".to_owned(), number(found, "rows_per_s")?)),
            None => None,
        };
        rows.push(Row {
            job: if batch == "1024" {
                "train flights MLP 256-256, batch 1024"
            } else {
                "train flights MLP 256-256, batch 4096"
            },
            unit: "rows/s",
            ours: median(ours.clone()),
            peer: compared,
            remark: format!("peak {:.0} MB", peak / 1e6),
            details: json!({ "runs": ours, "auc": auc, "peak_bytes": peak, "peer": found }),
        });
    }
    Ok(rows)
}

/// What `--deterministic` costs: the same training with it and without, in turns.
pub(crate) fn deterministic(setup: &Setup) -> Result<Vec<Row>, String> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        without.push(train_once(setup, "1024", &[])?.rows_per_s);
        with.push(train_once(setup, "1024", &["--deterministic"])?.rows_per_s);
    }
    let (ours, plain) = (median(with.clone()), median(without.clone()));
    Ok(vec![Row {
        job: "the same, --deterministic, batch 1024",
        unit: "rows/s",
        ours,
        peer: Some(("karat without it".to_owned(), plain)),
        remark: format!("costs {:.1} %", 100.0 * (1.0 - ours / plain)),
        details: json!({ "runs": with, "peer_runs": without }),
    }])
}

/// One training of ours.
struct Trained {
    rows_per_s: f64,
    auc: Value,
    peak: f64,
}

fn train_once(setup: &Setup, batch: &str, flags: &[&str]) -> Result<Trained, String> {
    let folder = fresh(setup)?;
    let set = format!("train.batch_size={batch}");
    let line = [
        "run",
        "--set",
        &set,
        "--set",
        "train.early_stopping=0",
        "--set",
        "split.flights.train={ where = \"month <= 6 and not (month = 1 and day = 1)\" }",
        "--set",
        "split.flights.eval={ where = \"month = 1 and day = 1\" }",
        "--dry-run",
        "--out",
        "out",
    ];
    let line: Vec<&str> = line.iter().chain(flags).copied().collect();
    let (events, _, peak) = karat_any_exit(setup, folder.path(), &line)?;
    let read = |name: &str| {
        fs::read_to_string(folder.path().join("out").join(name))
            .map_err(|error| format!("{name}: {error}"))
    };
    let rows_per_s = throughput(&read("metrics.jsonl")?, &read("throughput.jsonl")?)?;
    let end = events.iter().find(|it| it["event"] == "run_finished");
    Ok(Trained { rows_per_s, auc: end.map_or(Value::Null, by_month), peak })
}

/// As [`karat`], but a verdict other than pass is a result too.
pub(crate) fn karat_any_exit(
    setup: &Setup,
    dir: &Path,
    line: &[&str],
) -> Result<(Vec<Value>, f64, f64), String> {
    karat(setup, dir, line).or_else(|error| {
        if error.contains("ended with Some(1)") || error.contains("ended with Some(4)") {
            Ok((Vec::new(), f64::NAN, f64::NAN))
        } else {
            Err(error)
        }
    })
}

/// Rows per second between the first and the last update: start-up and the first update do not count.
fn throughput(metrics: &str, throughput: &str) -> Result<f64, String> {
    let lines = |text: &str| -> Vec<Value> {
        text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect()
    };
    let (updates, times) = (lines(metrics), lines(throughput));
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return Err("the throughput log is empty".to_owned());
    };
    let n_rows: f64 = updates.iter().skip(1).filter_map(|it| it["n_rows"].as_f64()).sum();
    Ok(n_rows * 1000.0 / (number(last, "at_ms")? - number(first, "at_ms")?))
}

fn by_month(end: &Value) -> Value {
    let cells =
        end["summary"]["verdict"]["report"]["cells"].as_array().cloned().unwrap_or_default();
    let auc = cells.iter().filter(|it| it["metric"] == "auc").filter(|it| {
        let slice = it["slice"].as_str().unwrap_or_default();
        slice == "all" || slice.starts_with("month=")
    });
    auc.map(|it| (it["slice"].as_str().unwrap_or_default().to_owned(), it["value"].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The year ten times over: 3,367,760 rows in 120 files.
fn big(setup: &Setup, folder: &Path) -> Result<PathBuf, String> {
    let to = folder.join("big");
    fs::create_dir_all(&to).map_err(|error| error.to_string())?;
    for entry in
        fs::read_dir(setup.flights.join("data")).map_err(|error| error.to_string())?.flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".parquet") {
            for copy in 0..10 {
                fs::copy(entry.path(), to.join(format!("{copy}-{name}")))
                    .map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(to)
}

/// Parquet to Parquet, the whole process: start, read, encode, score, write, fsync.
pub(crate) fn score(setup: &Setup) -> Result<Vec<Row>, String> {
    let folder = fresh(setup)?;
    let (_, _, _) = karat(setup, folder.path(), &["run"])?;
    let data = big(setup, folder.path())?;
    let pattern = data.join("*.parquet").display().to_string();
    let (mut ours, mut theirs, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
    let mut found = None;
    // In turns, so that a machine that slows down slows both.
    for _ in 0..REPEATS {
        let (events, wall, bytes) =
            karat(setup, folder.path(), &["score", &pattern, "--out", "scores.parquet"])?;
        let n_rows = events
            .iter()
            .find(|it| it["event"] == "scored")
            .map(|it| it["summary"]["n_rows"].clone())
            .and_then(|it| it.as_f64());
        ours.push(n_rows.ok_or("no scored event")? / wall);
        peak = peak.max(bytes);
        found = peer_score(setup, folder.path(), &data)?;
        if let Some(found) = &found {
            theirs.push(number(found, "rows_per_s")?);
        }
    }
    let compared =
        (!theirs.is_empty()).then(|| ("pyarrow + ONNX Runtime".to_owned(), median(theirs.clone())));
    Ok(vec![Row {
        job: "score 3,367,760 rows, Parquet to Parquet",
        unit: "rows/s",
        ours: median(ours.clone()),
        peer: compared,
        remark: format!("peak {:.0} MB, goal under 1 GiB", peak / 1e6),
        details: json!({ "runs": ours, "peer_runs": theirs, "peak_bytes": peak, "peer": found }),
    }])
}

fn peer_score(setup: &Setup, folder: &Path, data: &Path) -> Result<Option<Value>, String> {
    let model = folder.join("peer.onnx").display().to_string();
    let flights = setup.flights.join("data").display().to_string();
    if peer(setup, "export_flights_onnx.py", &["--data", &flights, "--out", &model])?.is_none() {
        return Ok(None);
    }
    let out = folder.join("peer.parquet").display().to_string();
    peer(
        setup,
        "score_flights_ort.py",
        &["--data", &data.display().to_string(), "--model", &model, "--out", &out],
    )
}

/// Freeze and check 3.4 million rows, nothing cached.
pub(crate) fn check(setup: &Setup) -> Result<Vec<Row>, String> {
    let mut times = Vec::new();
    let mut peak = 0.0_f64;
    for _ in 0..REPEATS {
        let folder = fresh(setup)?;
        let data = big(setup, folder.path())?;
        let files = format!(
            "dataset.flights.files={}",
            json!(data.join("*.parquet").display().to_string())
        );
        // Ten copies of every row are ten duplicates of every key; that is not what is timed.
        let line = ["check", "--set", &files, "--set", "check={\"schema.key\"={level=\"warn\"}}"];
        let started = Instant::now();
        let result = karat(setup, folder.path(), &line);
        match result {
            Ok((_, wall, bytes)) => {
                times.push(wall);
                peak = peak.max(bytes);
            }
            Err(error) if error.contains("Some(1)") => times.push(started.elapsed().as_secs_f64()),
            Err(error) => return Err(error),
        }
    }
    let wall = median(times.clone());
    Ok(vec![Row {
        job: "snapshot + check of 3,367,760 rows x 20",
        unit: "rows/s",
        ours: 3_367_760.0 / wall,
        peer: None,
        remark: format!("{wall:.2} s, goal under 5 s"),
        details: json!({ "seconds": times, "peak_bytes": peak }),
    }])
}

/// 500 MB into the store, durably, beside a plain write and fsync of the same bytes on the same disk.
pub(crate) fn save(_: &Setup) -> Result<Vec<Row>, String> {
    const N_BYTES: usize = 500_000_000;
    // Beside the checkout, not in a folder that may be memory.
    let folder = tempfile::tempdir_in(".").map_err(|error| error.to_string())?;
    let mut bytes = vec![0_u8; N_BYTES];
    for (i, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    let (mut plain, mut stored) = (Vec::new(), Vec::new());
    let store =
        karat_store::Store::open(&folder.path().join("store"), karat_store::Access::ReadWrite)
            .map_err(|error| error.to_string())?;
    for i in 0..5_u8 {
        bytes[0] = i;
        let path = folder.path().join("plain");
        let (wall, ()) = seconds(|| {
            let mut file = fs::File::create(&path).map_err(|error| error.to_string())?;
            file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(|error| error.to_string())
        })?;
        plain.push(N_BYTES as f64 / wall / 1e9);
        let n_blocks = fs::metadata(&path).map(|it| it.blocks()).unwrap_or(0);
        debug_assert!(0 < n_blocks);
        fs::remove_file(&path).map_err(|error| error.to_string())?;
        let (wall, _) = seconds(|| store.put_bytes(&bytes).map_err(|error| error.to_string()))?;
        stored.push(N_BYTES as f64 / wall / 1e9);
    }
    // A virtual disk takes bursts and then slows down: the best of each side is what the code can do.
    let best = |figures: &[f64]| figures.iter().copied().fold(0.0, f64::max);
    Ok(vec![Row {
        job: "commit 500 MB to the store, digested",
        unit: "GB/s",
        ours: best(&stored),
        peer: Some(("plain write + fsync".to_owned(), best(&plain))),
        remark: "best of 5 each, goal 0.7".to_owned(),
        details: json!({ "stored": stored, "plain": plain }),
    }])
}
