//! Files become counted, digested, sliceable columns and back: Arrow, Parquet, DataFusion.
//!
//! [`ArrowTables`] is the port [`karat_core::port::Tables`] made real. Everything streams: memory does not grow with
//! the rows, and no result depends on the number of threads or the size of a batch. Encoded training rows, which are
//! fetched in any order, are the exception: they stay in memory as 4-byte numbers up to [`rows::MEMORY_MAX`] and go to a
//! scratch file above it. Rows that the gate reads back are in memory, all of them.
//!
//! Reading order: [`ArrowTables`], then `files`, `decode`, `cast`, `read` (how rows come in), `split`, `snapshot`,
//! `measure`, `fit`, `encode`, `rows`, `score`, `write` (how they go out), `scored`. Beside them: `text` and `calendar`
//! (values as words), `idx` and `image` (pictures), `hash`, `count`, `predicate`, `infer`.

mod calendar;
mod cast;
mod count;
mod decode;
mod encode;
mod error;
mod files;
mod fit;
mod hash;
mod idx;
mod image;
mod infer;
mod measure;
mod pictures;
mod predicate;
mod read;
mod rows;
mod score;
mod scored;
mod snapshot;
mod split;
mod text;
mod write;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use karat_core::{
    DatasetSpec, Exit, Failure, FeaturePlan, Name, Profile, Schema, ScoredRows, Snapshot,
    port::{
        EncodedRows, FitRequest, KnownFile, Located, OnProgress, ScoreRequest, ScoreSummary,
        Scorer, Stop, Tables,
    },
};

pub use fit::{CLASSES_MAX, suggested_task};

use crate::{
    scored::Wanted,
    snapshot::{Order, Verified},
};

/// Tables over files, through Arrow.
#[derive(Debug)]
pub struct ArrowTables {
    /// Threads that decode and count; 0 = all cores. No result depends on it.
    pub threads: usize,
    /// Folder for rows that do not fit into memory. Made when needed; what is put there is removed again.
    pub temp_dir: PathBuf,
    verified: Verified,
}

impl ArrowTables {
    /// Tables that use `threads` threads and put what does not fit into memory under `temp_dir`.
    #[must_use]
    pub fn new(threads: usize, temp_dir: PathBuf) -> Self {
        Self { threads, temp_dir, verified: Verified::default() }
    }

    fn n_threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        }
    }

    /// Runs `call` where rayon uses as many threads as were asked for.
    fn within<T: Send>(
        &self,
        call: impl FnOnce(usize) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let n = self.n_threads();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().map_err(|error| {
            Failure::new("thread-failed", Exit::Run, "cannot start the threads that count")
                .because(&error)
        })?;
        pool.install(|| call(n))
    }
}

impl Tables for ArrowTables {
    fn infer_schema(
        &self,
        root: &Path,
        files: &[String],
        label: Option<&str>,
    ) -> Result<Schema, Failure> {
        self.within(|_| infer::infer(root, files, label))
    }

    fn snapshot(
        &self,
        root: &Path,
        dataset: &DatasetSpec,
        schema: &Schema,
        known: &[KnownFile],
        progress: OnProgress<'_>,
    ) -> Result<(Snapshot, Vec<KnownFile>), Failure> {
        self.within(|_| snapshot::freeze(&self.verified, root, dataset, schema, known, progress))
    }

    fn measure(
        &self,
        located: &Located,
        label_split: Option<&Name>,
        progress: OnProgress<'_>,
    ) -> Result<Profile, Failure> {
        self.within(|threads| {
            let files = self.verified.files(located, Order::Snapshot)?;
            measure::measure(located, &files, label_split, progress, threads, &self.temp_dir)
        })
    }

    fn fit(
        &self,
        located: &Located,
        split: &Name,
        request: &FitRequest,
    ) -> Result<FeaturePlan, Failure> {
        self.within(|threads| {
            let files = self.verified.files(located, Order::Snapshot)?;
            fit::fit(located, &files, split, request, threads)
        })
    }

    fn encode(
        &self,
        located: &Located,
        split: &Name,
        plan: &FeaturePlan,
    ) -> Result<Box<dyn EncodedRows>, Failure> {
        self.within(|threads| {
            let files = self.verified.files(located, Order::Snapshot)?;
            rows::encode(located, &files, split, plan, threads, &self.temp_dir, rows::MEMORY_MAX)
        })
    }

    fn score(
        &self,
        located: &Located,
        plan: &FeaturePlan,
        request: &ScoreRequest<'_>,
        score: Scorer<'_>,
        progress: OnProgress<'_>,
        stop: &dyn Stop,
    ) -> Result<ScoreSummary, Failure> {
        // All rows go by path, for people; the rows of a split go by digest, for comparisons.
        let order = if request.split.is_some() { Order::Snapshot } else { Order::Path };
        let files = self.within(|_| self.verified.files(located, order))?;
        let threads = self.n_threads();
        let caller = score::Caller { scorer: score, progress, stop };
        score::score(located, &files, plan, request, caller, threads)
    }

    fn read_scored(&self, predictions: &Path) -> Result<ScoredRows, Failure> {
        scored::read_scored(predictions, Wanted::Labeled)
    }

    fn read_unlabeled(&self, predictions: &Path) -> Result<ScoredRows, Failure> {
        scored::read_scored(predictions, Wanted::Unlabeled)
    }
}
