//! Lines of logs, evenly thinned: a log may have a million lines, a picture of it needs some hundred.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use karat_core::{Digest, RunId};

use crate::{Store, StoreError, objects::open_plain};

/// Up to this size a log is read whole.
const WHOLE_MAX: u64 = 4 << 20;
/// Longest line that is looked at.
const LINE_MAX: u64 = 64 << 10;

/// A file of a run that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunLogFile {
    /// Loss, learning rate, gradient norm: one line per update.
    Metrics,
    /// Times: one line per update.
    Throughput,
    /// One line per look at the eval split.
    Evaluations,
}

impl RunLogFile {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics.jsonl",
            Self::Throughput => "throughput.jsonl",
            Self::Evaluations => "evaluations.jsonl",
        }
    }
}

impl Store {
    /// At most about `n_max` lines of an object, evenly spread, for a picture. Its digest is not checked: that would cost
    /// more than reading them.
    pub fn object_lines(&self, digest: &Digest, n_max: usize) -> Result<Vec<String>, StoreError> {
        let path = self.path(digest);
        match open_plain(&path) {
            Ok(file) => thinned(file, n_max).map_err(|error| unreadable(&path, error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(StoreError::ObjectMissing { digest: *digest })
            }
            Err(error) => Err(unreadable(&path, error)),
        }
    }

    /// At most about `n_max` lines of what a run has written so far, evenly spread; none when it wrote none.
    pub fn run_log_lines(
        &self,
        run: &RunId,
        file: RunLogFile,
        n_max: usize,
    ) -> Result<Vec<String>, StoreError> {
        let path = self.run_dir(run)?.join(file.name());
        match open_plain(&path) {
            Ok(file) => thinned(file, n_max).map_err(|error| unreadable(&path, error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(unreadable(&path, error)),
        }
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> StoreError {
    StoreError::io("read", path, None, error)
}

/// Whole lines of `file`; what is no UTF-8 is left out.
fn thinned(mut file: File, n_max: usize) -> std::io::Result<Vec<String>> {
    let n_bytes = file.metadata()?.len();
    if n_bytes <= WHOLE_MAX {
        let mut bytes = Vec::new();
        file.take(WHOLE_MAX).read_to_end(&mut bytes)?;
        let whole: Vec<&[u8]> =
            bytes.split_inclusive(|byte| *byte == b'\n').filter(|it| it.ends_with(b"\n")).collect();
        let stride = whole.len().div_ceil(n_max.max(1)).max(1);
        let last = whole.len().saturating_sub(1);
        let kept = whole.iter().enumerate().filter(|(i, _)| i % stride == 0 || *i == last);
        let text = |line: &[u8]| Some(std::str::from_utf8(line).ok()?.trim_end().to_owned());
        return Ok(kept.filter_map(|(_, line)| text(line)).collect());
    }
    let mut lines: Vec<String> = Vec::new();
    for i in 0..n_max as u64 {
        file.seek(SeekFrom::Start(n_bytes / n_max as u64 * i))?;
        let mut reader = BufReader::with_capacity(1 << 10, &mut file).take(LINE_MAX);
        let mut line = String::new();
        // The place is inside some line: the next one is whole.
        if 0 < i && reader.read_line(&mut line).is_err() {
            continue;
        }
        line.clear();
        if reader.read_line(&mut line).is_ok() && line.ends_with('\n') {
            lines.push(line.trim_end().to_owned());
        }
    }
    lines.dedup();
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::{WHOLE_MAX, thinned};

    fn lines(text: &str, n_max: usize) -> Vec<String> {
        let mut file = tempfile::tempfile().expect("a scratch file");
        file.write_all(text.as_bytes()).expect("it can be written");
        use std::io::{Seek as _, SeekFrom};
        file.seek(SeekFrom::Start(0)).expect("it can be read from its beginning");
        thinned(file, n_max).expect("it can be read")
    }

    #[test]
    fn short_logs_keep_their_first_and_last_line_and_lose_half_written_ones() {
        assert_eq!(lines("1\n2\n3\n4\n5\n6\n", 3), ["1", "3", "5", "6"]);
        assert_eq!(lines("1\n2\n3", 9), ["1", "2"]);
        assert!(lines("", 9).is_empty());
    }

    #[test]
    fn long_logs_are_sampled_in_order_without_half_lines() {
        let text: String = (0..600_000).map(|i| format!("{i:09}\n")).collect();
        assert!(WHOLE_MAX < text.len() as u64);
        let found = lines(&text, 100);
        assert_eq!((found.len(), found[0].as_str()), (100, "000000000"));
        assert!(found.iter().all(|line| line.len() == 9) && found.is_sorted());
    }
}
