//! What the server is told: plain values, made from the store by whoever calls.

use std::{collections::BTreeMap, path::PathBuf};

use karat_core::Timestamp;

/// One training, and what became of the version it made.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The experiment: the project's name.
    pub experiment: String,
    /// The training.
    pub training: Training,
    /// What a gate said about its version; absent when none was asked.
    pub judgement: Option<Judgement>,
    /// Where an alias points now; absent when none was asked to move.
    pub moved: Option<Move>,
}

/// A training and the version it made.
#[derive(Clone, Debug, Default)]
pub struct Training {
    /// Id of our run: `r-4c19e2a07b`. The server has one run of it, however often it is told.
    pub run: String,
    /// The model: `flights`.
    pub model: String,
    /// The version: `flights@3`.
    pub version: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What it was told to do, by name.
    pub params: BTreeMap<String, String>,
    /// What else is known of it, by name.
    pub tags: BTreeMap<String, String>,
    /// Numbers by update.
    pub points: Vec<Point>,
    /// The data it was trained on: name and digest.
    pub dataset: (String, String),
    /// The version's files.
    pub files: Vec<Artifact>,
}

/// What a gate said.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Digest of the verdict. The server is told of each once.
    pub verdict: String,
    /// Numbers of the candidate: `auc`, `auc/carrier_UA`.
    pub points: Vec<Point>,
    /// Outcome, gate, baseline and such, by name.
    pub tags: BTreeMap<String, String>,
    /// The reports.
    pub files: Vec<Artifact>,
}

/// Where an alias points.
#[derive(Clone, Debug, Default)]
pub struct Move {
    /// `champion`.
    pub alias: String,
    /// Why and from where, as tags of the version.
    pub tags: BTreeMap<String, String>,
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its name.
    pub key: String,
    /// Its value; NaN and infinities are told as what they are.
    pub value: f64,
    /// Updates done.
    pub step: u64,
    /// When.
    pub at: Timestamp,
}

/// One file.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Its path below the run: `model/model.safetensors`.
    pub name: String,
    /// Where its bytes lie.
    pub path: PathBuf,
}
