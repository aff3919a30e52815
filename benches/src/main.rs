//! `karat-bench`: every job beside the tool a user would pick, in one run on one machine; what counts is the ratio.
//!
//! `karat-bench [JOB…] --karat BINARY --flights DIR [--python PYTHON]`. Without `--python` peers are left out, and the
//! table says so. One JSON line a job goes to stdout, the table to stderr.
//!
//! Reading order: [`main`], then one function a job.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people, not part of the product"
)]

mod cnn;
mod encoder;
mod gate;
mod jobs;
mod kernels;

use std::path::PathBuf;

use serde_json::{Value, json};

/// What the jobs need.
pub(crate) struct Setup {
    pub(crate) karat: PathBuf,
    pub(crate) flights: PathBuf,
    pub(crate) python: Option<PathBuf>,
    pub(crate) peers: PathBuf,
}

/// One figure of ours beside one of a peer. Larger is better in both.
pub(crate) struct Row {
    pub(crate) job: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    pub(crate) peer: Option<(String, f64)>,
    pub(crate) remark: String,
    pub(crate) details: Value,
}

type Job = fn(&Setup) -> Result<Vec<Row>, String>;

const JOBS: [(&str, Job); 11] = [
    ("help", jobs::help),
    ("train", jobs::train),
    ("deterministic", jobs::deterministic),
    ("score", jobs::score),
    ("encoder", encoder::encoder),
    ("check", jobs::check),
    ("gate", gate::gate),
    ("cold-gate", gate::cold),
    ("save", jobs::save),
    ("conv", kernels::conv),
    ("cnn", cnn::train),
];

/// As the product: fresh activations cost page faults with the system's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut setup = Setup {
        karat: PathBuf::from("target/release/karat"),
        flights: PathBuf::from("examples/flights"),
        python: None,
        peers: PathBuf::from("benches/peers"),
    };
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut path = || PathBuf::from(arguments.next().unwrap_or_default());
        match argument.as_str() {
            "--karat" => setup.karat = path(),
            "--flights" => setup.flights = path(),
            "--python" => setup.python = Some(path()),
            "--peers" => setup.peers = path(),
            job if JOBS.iter().any(|(name, _)| *name == job) => wanted.push(job.to_owned()),
            other => {
                let known: Vec<&str> = JOBS.iter().map(|(name, _)| *name).collect();
                eprintln!("`{other}` is no job: known are {}", known.join(", "));
                std::process::exit(2);
            }
        }
    }
    for path in [&mut setup.karat, &mut setup.flights, &mut setup.peers] {
        *path = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
    }
    let mut has_failed = false;
    for (name, job) in
        JOBS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|it| it == name))
    {
        match job(&setup) {
            Ok(rows) => rows.iter().for_each(print),
            Err(reason) => {
                has_failed = true;
                eprintln!("{name}: not measured: {reason}");
            }
        }
    }
    std::process::exit(i32::from(has_failed));
}

fn print(row: &Row) {
    let peer = match &row.peer {
        Some((name, figure)) => format!("{name} {figure:.4} → ratio {:.2}", row.ours / figure),
        None => "peer not run".to_owned(),
    };
    eprintln!("{:<44} {:>14.4} {:<8} {peer}  {}", row.job, row.ours, row.unit, row.remark);
    let peer = row.peer.as_ref().map(
        |(name, figure)| json!({ "name": name, "figure": figure, "ratio": row.ours / figure }),
    );
    println!(
        "{}",
        json!({ "job": row.job, "unit": row.unit, "karat": row.ours, "peer": peer, "remark": row.remark, "details": row.details })
    );
}
