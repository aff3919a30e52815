//! What a training writes down as it goes, under `runs/<run>/`: one line per update in two files, so that the one with
//! the numbers is byte-equal after any resume and the one with the times need not be; one line per evaluation.
//!
//! [`RunLog::flush`] comes before each checkpoint: a checkpoint is never ahead of its log. A crash may leave the log
//! ahead of the checkpoint; [`RunLog::rewind_to`] cuts it back.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use karat_core::{RunId, Timestamp, UpdateRecord};
use serde::{Deserialize, Serialize};

use crate::{Store, StoreError, disk::Disk};

/// Bytes kept back before a write.
const BUFFER: usize = 64 << 10;

/// The log of one training.
pub struct RunLog {
    disk: Arc<Disk>,
    metrics: Part,
    throughput: Part,
    evaluations: Part,
    /// Time of the last update of this attempt.
    last_at: Option<Timestamp>,
}

/// One file of lines.
struct Part {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    is_synced: bool,
}

/// All that `rewind_to` needs of any line.
#[derive(Deserialize)]
struct AnyLine {
    update: u64,
}

#[derive(Serialize)]
struct ThroughputLine {
    update: u64,
    at_ms: i64,
    /// Absent for the first update of an attempt, which has no predecessor.
    rows_per_s: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct EvaluationLine {
    update: u64,
    /// Absent when the loss was not finite.
    loss: Option<f64>,
    /// The metric; absent when it was not finite.
    #[serde(default)]
    value: Option<f64>,
}

/// What was seen of the eval split: (update, value), in order of updates; without what was not finite.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluations {
    /// Losses.
    pub losses: Vec<[f64; 2]>,
    /// The metric.
    pub values: Vec<[f64; 2]>,
}

impl RunLog {
    /// Opens the log of a run, creating it when needed.
    pub fn open(store: &Store, run: &RunId) -> Result<Self, StoreError> {
        store.writable()?;
        let dir = store.run_dir(run)?;
        let disk = Arc::clone(&store.disk);
        disk.make_dir(&dir)?;
        let log = Self {
            metrics: Part::open(&disk, &dir, "metrics.jsonl")?,
            throughput: Part::open(&disk, &dir, "throughput.jsonl")?,
            evaluations: Part::open(&disk, &dir, "evaluations.jsonl")?,
            last_at: None,
            disk,
        };
        log.disk.sync_dir(&dir)?;
        Ok(log)
    }

    /// Drops every line after `update`, and a half-written one. `false` when the log does not reach that far.
    pub fn rewind_to(&mut self, update: u64) -> Result<bool, StoreError> {
        let last = self.metrics.rewind(&self.disk, update)?;
        self.throughput.rewind(&self.disk, update)?;
        self.evaluations.rewind(&self.disk, update)?;
        self.last_at = None;
        Ok(last == update)
    }

    /// Adds one update.
    pub fn append(&mut self, record: &UpdateRecord, now: Timestamp) -> Result<(), StoreError> {
        let elapsed =
            self.last_at.and_then(|last| u32::try_from(now.0 - last.0).ok()).filter(|ms| 0 < *ms);
        self.last_at = Some(now);
        let rows_per_s = elapsed.map(|ms| record.n_rows as f64 * 1000.0 / f64::from(ms));
        self.metrics.line(record);
        self.throughput.line(&ThroughputLine { update: record.update, at_ms: now.0, rows_per_s });
        if BUFFER < self.metrics.buffer.len() {
            self.metrics.write(&self.disk)?;
            self.throughput.write(&self.disk)?;
        }
        Ok(())
    }

    /// Adds one look at the eval split: loss and metric. Looking twice after the same update keeps the later values.
    pub fn note_evaluation(&mut self, update: u64, loss: f64, value: f64) {
        let finite = |it: f64| Some(it).filter(|it| it.is_finite());
        self.evaluations.line(&EvaluationLine { update, loss: finite(loss), value: finite(value) });
    }

    /// Makes every line durable.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        for part in [&mut self.metrics, &mut self.throughput, &mut self.evaluations] {
            part.write(&self.disk)?;
            if !part.is_synced {
                self.disk.sync(&part.file, &part.path)?;
                part.is_synced = true;
            }
        }
        Ok(())
    }

    /// The lines of updates: numbers, times.
    pub fn read(&self) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
        Ok((self.metrics.read()?, self.throughput.read()?))
    }

    /// What was seen of the eval split.
    pub fn evaluations(&self) -> Result<Evaluations, StoreError> {
        let bytes = self.evaluations.read()?;
        let lines = bytes.split(|byte| *byte == b'\n');
        let latest: BTreeMap<u64, EvaluationLine> = lines
            .filter_map(|line| serde_json::from_slice::<EvaluationLine>(line).ok())
            .map(|line| (line.update, line))
            .collect();
        let points = |of: fn(&EvaluationLine) -> Option<f64>| {
            latest.values().filter_map(|it| Some([it.update as f64, of(it)?])).collect()
        };
        Ok(Evaluations { losses: points(|it| it.loss), values: points(|it| it.value) })
    }
}

impl Drop for RunLog {
    /// Hands over what is still kept back. Whoever needs to know that it arrived calls [`RunLog::flush`].
    fn drop(&mut self) {
        for part in [&mut self.metrics, &mut self.throughput, &mut self.evaluations] {
            let _ = part.write(&self.disk);
        }
    }
}

impl Part {
    fn open(disk: &Disk, dir: &Path, name: &str) -> Result<Self, StoreError> {
        let path = dir.join(name);
        let file = disk.append_to(&path)?;
        Ok(Self { path, file, buffer: Vec::new(), is_synced: true })
    }

    fn line<T: Serialize>(&mut self, line: &T) {
        serde_json::to_writer(&mut self.buffer, line).expect("plain numbers serialise into memory");
        self.buffer.push(b'\n');
    }

    fn write(&mut self, disk: &Disk) -> Result<(), StoreError> {
        if !self.buffer.is_empty() {
            self.is_synced = false;
            let result = disk.write(&self.file, &self.path, &self.buffer);
            // Not kept for a second try: part of it may have arrived, and the lines would stand there twice.
            self.buffer.clear();
            result?;
        }
        Ok(())
    }

    fn read(&self) -> Result<Vec<u8>, StoreError> {
        let mut bytes = std::fs::read(&self.path)
            .map_err(|error| StoreError::io("read", &self.path, None, error))?;
        bytes.extend_from_slice(&self.buffer);
        Ok(bytes)
    }

    /// Keeps the leading lines up to `update`; returns the last update kept.
    fn rewind(&mut self, disk: &Disk, update: u64) -> Result<u64, StoreError> {
        self.write(disk)?;
        let bytes = self.read()?;
        let (mut n_kept, mut last) = (0, 0);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match serde_json::from_slice::<AnyLine>(line) {
                Ok(found) if found.update <= update && line.ends_with(b"\n") => last = found.update,
                Ok(_) | Err(_) => break,
            }
            n_kept += line.len();
        }
        if n_kept < bytes.len() {
            disk.truncate(&self.file, &self.path, n_kept as u64)?;
            disk.sync(&self.file, &self.path)?;
        }
        Ok(last)
    }
}

impl Store {
    /// The folder of a run. Only a well-formed id becomes a path.
    pub(crate) fn run_dir(&self, run: &RunId) -> Result<PathBuf, StoreError> {
        if is_run_id(&run.0) {
            Ok(self.dir.join("runs").join(&run.0))
        } else {
            Err(StoreError::RunUnknown { asked: run.to_string(), near: Vec::new() })
        }
    }
}

/// `r-` and 10 hex digits.
pub(crate) fn is_run_id(text: &str) -> bool {
    text.strip_prefix("r-").is_some_and(|hex| {
        hex.len() == 10 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}
