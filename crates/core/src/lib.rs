//! What things *are*: ids, specs, reports, events, ports, random streams, and the versioned form each takes on disk.
//!
//! Pure: no file, clock, thread or ambient randomness. Everything else in the workspace rests on this crate.
//!
//! Reading order: [`port`] (the two borders), [`project`] (what a user asks for), [`snapshot`], [`plan`], [`batch`],
//! [`profile`], [`finding`], [`policy`], [`verdict`], [`event`].

pub mod batch;
pub mod canonical;
pub mod digest;
pub mod document;
pub mod environment;
pub mod error;
pub mod event;
pub mod exit;
pub mod explanation;
pub mod finding;
pub mod id;
pub mod image;
pub mod metric;
pub mod plan;
pub mod policy;
pub mod port;
pub mod profile;
pub mod project;
pub mod replay;
pub mod rng;
pub mod schema;
pub mod scored;
pub mod snapshot;
pub mod summary;
pub mod tensors;
pub mod time;
pub mod verdict;

pub use batch::Batch;
pub use digest::{Digest, DigestBuilder};
pub use document::Document;
pub use environment::{Environment, Host, Tier};
pub use error::{Code, Coded, Failure, nearest};
pub use event::{Event, Observer, Step, UpdateRecord};
pub use exit::Exit;
pub use explanation::Explanation;
pub use finding::{Finding, Outcome};
pub use id::{ModelRef, Name, ParseNameError, RunId, Which};
pub use image::{ImageFormat, ImageShape};
pub use plan::{Encoding, Feature, FeaturePlan, ImagePlan, LabelPlan};
pub use profile::Profile;
pub use project::{
    CheckLevel, CheckSetting, ClassWeights, DatasetSpec, ModelSpec, Precision, Project, ScoreSpec,
    SliceSpec, SplitSpec, Task, TrainSpec, thousands,
};
pub use replay::{Likeness, Replay};
pub use schema::{Column, ColumnType, FeatureKind, Role, Schema};
pub use scored::ScoredRows;
pub use snapshot::{Snapshot, SnapshotFile};
pub use time::Timestamp;
pub use verdict::Verdict;
