//! Which rows are equal: 128-bit hashes in partitions, which go to files when there are many, and are sorted one by
//! one at the end. Exact but for a chance of about n² / 2¹²⁹.
//!
//! Reading order: [`RowSet`], [`Summary`].

use std::{
    fs::File,
    io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use karat_core::{Failure, profile::EXAMPLES_MAX};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use crate::{error::FitError, rows::scratch_file};

/// Splits whose membership a row can carry.
pub(super) const SPLITS_MAX: usize = 32;
/// Parts that are sorted on their own.
const PARTITIONS: usize = 64;
/// Rows of one set kept in memory: 32 bytes each.
const ENTRIES_MAX: usize = 4 << 20;
/// Bytes of one row in a file.
const ENTRY_BYTES: usize = 28;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    hash: (u64, u64),
    row: u64,
    splits: u32,
}

impl Entry {
    fn write(&self, out: &mut impl io::Write) -> Result<(), io::Error> {
        for word in [self.hash.0, self.hash.1, self.row] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(&self.splits.to_le_bytes())
    }

    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes of an entry"))
        };
        let splits = u32::from_le_bytes(bytes[24..28].try_into().expect("four bytes of an entry"));
        Self { hash: (word(0), word(8)), row: word(16), splits }
    }
}

/// Rows by hash.
pub(super) struct RowSet {
    partitions: Vec<Partition>,
    n_in_memory: usize,
    n_max: usize,
    folder: PathBuf,
}

#[derive(Default)]
struct Partition {
    entries: Vec<Entry>,
    file: Option<(BufWriter<File>, PathBuf)>,
}

impl Drop for Partition {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.file {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What is equal to what.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    /// Rows equal to an earlier one.
    pub(super) n_repeated: u64,
    /// The first of them.
    pub(super) first: Vec<u64>,
    /// For every pair of splits, distinct values on both sides.
    pub(super) n_shared: Vec<u64>,
    /// For every pair of splits, rows of the second whose value is on both sides.
    pub(super) n_rows_shared: Vec<u64>,
}

impl RowSet {
    /// No rows; `folder` is for files.
    pub(super) fn new(folder: &Path) -> Self {
        Self::with_limit(folder, ENTRIES_MAX)
    }

    fn with_limit(folder: &Path, n_max: usize) -> Self {
        let partitions = (0..PARTITIONS).map(|_| Partition::default()).collect();
        Self { partitions, n_in_memory: 0, n_max, folder: folder.to_owned() }
    }

    /// Adds row `row`, a member of `splits` (one bit each).
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of PARTITIONS")]
    pub(super) fn push(&mut self, hash: (u64, u64), row: u64, splits: u32) -> Result<(), Failure> {
        let at = (hash.0 % PARTITIONS as u64) as usize;
        self.partitions[at].entries.push(Entry { hash, row, splits });
        self.n_in_memory += 1;
        if self.n_max <= self.n_in_memory {
            self.n_in_memory = 0;
            self.spill().map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Failure {
        FitError::Spill { folder: self.folder.display().to_string(), source }.into()
    }

    fn spill(&mut self) -> Result<(), io::Error> {
        for partition in &mut self.partitions {
            if partition.file.is_none() {
                let (file, path) = scratch_file(&self.folder)?;
                partition.file = Some((BufWriter::new(file), path));
            }
            if let Some((file, _)) = &mut partition.file {
                for entry in partition.entries.drain(..) {
                    entry.write(file)?;
                }
            }
        }
        Ok(())
    }

    /// Counts what is equal; `pairs` are pairs of splits.
    pub(super) fn finish(mut self, pairs: &[(usize, usize)]) -> Result<Summary, Failure> {
        let partitions = std::mem::take(&mut self.partitions);
        let parts: Vec<Result<Summary, io::Error>> =
            partitions.into_par_iter().map(|it| it.finish(pairs)).collect();
        let mut sum = Summary {
            n_shared: vec![0; pairs.len()],
            n_rows_shared: vec![0; pairs.len()],
            ..Summary::default()
        };
        for part in parts {
            let part = part.map_err(|source| self.failed(source))?;
            sum.n_repeated += part.n_repeated;
            sum.first.extend(part.first);
            for (sum, n) in sum.n_shared.iter_mut().zip(part.n_shared) {
                *sum += n;
            }
            for (sum, n) in sum.n_rows_shared.iter_mut().zip(part.n_rows_shared) {
                *sum += n;
            }
        }
        sum.first.sort_unstable();
        sum.first.truncate(EXAMPLES_MAX);
        Ok(sum)
    }
}

impl Partition {
    fn finish(mut self, pairs: &[(usize, usize)]) -> Result<Summary, io::Error> {
        let mut entries = std::mem::take(&mut self.entries);
        if let Some((file, _)) = &mut self.file {
            file.flush()?;
            let file = file.get_mut();
            file.seek(SeekFrom::Start(0))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            entries.extend(bytes.chunks_exact(ENTRY_BYTES).map(Entry::read));
        }
        entries.sort_unstable();
        let mut sum = Summary {
            n_shared: vec![0; pairs.len()],
            n_rows_shared: vec![0; pairs.len()],
            ..Summary::default()
        };
        for equal in entries.chunk_by(|a, b| a.hash == b.hash) {
            for repeated in &equal[1..] {
                sum.n_repeated += 1;
                sum.first.push(repeated.row);
            }
            let all = equal.iter().fold(0, |bits, it| bits | it.splits);
            if all.count_ones() < 2 {
                continue;
            }
            for (at, (a, b)) in pairs.iter().enumerate() {
                if all >> a & all >> b & 1 == 1 {
                    sum.n_shared[at] += 1;
                    sum.n_rows_shared[at] +=
                        equal.iter().filter(|it| it.splits >> b & 1 == 1).count() as u64;
                }
            }
        }
        sum.first.sort_unstable();
        sum.first.truncate(EXAMPLES_MAX);
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::{RowSet, Summary};
    use crate::hash::mix;

    fn filled(n_max: usize) -> Summary {
        let folder = tempfile::tempdir().expect("a folder");
        let mut set = RowSet::with_limit(folder.path(), n_max);
        for row in 0..1_000_u64 {
            // Rows 900… repeat rows 0…99, and are in the second split.
            let value = row % 900;
            let splits = if row < 900 { 0b01 } else { 0b10 };
            set.push((mix(value + 1, u64::MAX / 3), value), row, splits).expect("room");
        }
        set.finish(&[(0, 1)]).expect("counted")
    }

    #[test]
    fn repeats_are_counted_in_memory_and_in_files_alike() {
        for n_max in [usize::MAX, 100] {
            let sum = filled(n_max);
            assert_eq!(sum.n_repeated, 100);
            assert_eq!(sum.first, [900, 901, 902, 903, 904]);
            assert_eq!((sum.n_shared[0], sum.n_rows_shared[0]), (100, 100));
        }
    }
}
