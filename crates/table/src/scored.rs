//! Reading predictions back: the labelled rows, in memory, as the gate wants them; or those that have no label yet.
//!
//! What the columns mean stands in the file's footer, where `crate::score` put it.
//!
//! Reading order: [`read_scored`].

use std::{collections::HashMap, fs::File, path::Path};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Float32Type};
use karat_core::{Failure, LabelPlan, ScoredRows, Task, scored::SliceColumn};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{
    cast::{cast, declared_type, present},
    encode::{CLASS_UNKNOWN, Labels},
    error::{FitError, ScoreError, internal},
    hash::FastMap,
    read::READ_ROWS,
    score::{SLICE_PREFIX, task_word},
    text::{shown, value_text, write_value},
};

/// Which rows of a predictions file are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those with a label: what is judged.
    Labeled,
    /// Those without: what could be labelled.
    Unlabeled,
}

/// The labelled rows of a predictions file, or the others.
pub(crate) fn read_scored(path: &Path, wanted: Wanted) -> Result<ScoredRows, Failure> {
    let refuse =
        |reason: String| ScoreError::NotPredictions { file: path.display().to_string(), reason };
    let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| refuse(error.to_string()))?;
    let footer: HashMap<String, String> = builder
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .into_iter()
        .flatten()
        .filter_map(|it| Some((it.key.clone(), it.value.clone()?)))
        .collect();
    let meant = Meaning::read(&footer).map_err(&refuse)?;
    let mut rows = Collected::new(
        &meant,
        &builder.schema().fields().iter().map(|it| it.name().clone()).collect::<Vec<_>>(),
    )
    .map_err(&refuse)?;
    let reader =
        builder.with_batch_size(READ_ROWS).build().map_err(|error| refuse(error.to_string()))?;
    for batch in reader {
        rows.add(&batch.map_err(|error| refuse(error.to_string()))?, wanted)?;
    }
    Ok(rows.finish(meant))
}

/// What the footer says of the columns.
struct Meaning {
    task: Task,
    classes: Vec<String>,
    label: String,
    keys: Vec<String>,
    slices: Vec<String>,
    group: Option<String>,
    rows: karat_core::Digest,
}

impl Meaning {
    fn read(footer: &HashMap<String, String>) -> Result<Self, String> {
        let get = |key: &str| footer.get(key).ok_or_else(|| format!("its footer has no `{key}`"));
        let list = |key: &str| -> Result<Vec<String>, String> {
            serde_json::from_str(get(key)?).map_err(|error| format!("`{key}`: {error}"))
        };
        let word = get("karat.task")?;
        let task = [Task::Binary, Task::Multiclass, Task::Regression]
            .into_iter()
            .find(|it| task_word(*it) == word)
            .ok_or_else(|| format!("`karat.task` is `{word}`"))?;
        let classes = list("karat.classes")?;
        let n_classes_fit = match task {
            Task::Binary => classes.len() == 2,
            Task::Multiclass => !classes.is_empty(),
            Task::Regression => true,
        };
        if !n_classes_fit {
            return Err(format!("{} classes for task `{word}`", classes.len()));
        }
        Ok(Self {
            task,
            classes,
            label: footer.get("karat.label").ok_or("its rows have no label column")?.clone(),
            keys: list("karat.keys")?,
            slices: list("karat.slices")?,
            group: footer.get("karat.group").cloned(),
            rows: get("karat.rows")?.parse().map_err(|error| format!("`karat.rows`: {error}"))?,
        })
    }

    fn scores(&self) -> Vec<String> {
        match self.task {
            Task::Binary => vec!["score".to_owned()],
            Task::Regression => vec!["prediction".to_owned()],
            Task::Multiclass => self.classes.iter().map(|it| format!("score_{it}")).collect(),
        }
    }

    /// Labels in their own unit.
    fn plan(&self) -> LabelPlan {
        let (column, classes) = (self.label.clone(), self.classes.clone());
        match self.task {
            Task::Binary => LabelPlan::Binary { column, classes, counts: Vec::new() },
            Task::Multiclass => LabelPlan::Multiclass { column, classes, counts: Vec::new() },
            Task::Regression => LabelPlan::Regression { column, mean: 0.0, std: 1.0 },
        }
    }
}

/// Texts as dense numbers in order of appearance.
#[derive(Default)]
struct Codes {
    codes: FastMap<String, u32>,
    rows: Vec<u32>,
}

impl Codes {
    /// Adds one row; a missing text has a code of its own unless `missing` is given.
    fn add(&mut self, text: Option<&str>, missing: Option<u32>) {
        let code = match (text, missing) {
            (None, Some(missing)) => missing,
            (text, _) => {
                // No text of a column contains NUL alone by accident: it stands for "missing".
                let text = text.unwrap_or("\0");
                match self.codes.get(text) {
                    Some(code) => *code,
                    None => {
                        let code = u32::try_from(self.codes.len()).unwrap_or(u32::MAX - 1);
                        self.codes.insert(text.to_owned(), code);
                        code
                    }
                }
            }
        };
        self.rows.push(code);
    }

    /// The texts in text order, and the rows' places among them.
    fn sorted(self) -> (Vec<String>, Vec<u32>) {
        let mut texts: Vec<(String, u32)> = self.codes.into_iter().collect();
        texts.sort_unstable();
        let mut place = vec![0; texts.len()];
        for (at, (_, code)) in (0_u32..).zip(&texts) {
            place[*code as usize] = at;
        }
        let rows =
            self.rows.iter().map(|it| place.get(*it as usize).copied().unwrap_or(*it)).collect();
        (texts.into_iter().map(|it| it.0).collect(), rows)
    }
}

struct Collected {
    label: usize,
    labels: Option<Labels>,
    plan: LabelPlan,
    scores: Vec<usize>,
    keys: Vec<usize>,
    group: Option<(usize, Codes)>,
    slices: Vec<(usize, Codes, bool)>,
    label_values: Vec<f32>,
    score_values: Vec<f32>,
    names: Vec<String>,
}

impl Collected {
    fn new(meant: &Meaning, columns: &[String]) -> Result<Self, String> {
        let find = |name: &String| {
            columns
                .iter()
                .position(|it| it == name)
                .ok_or_else(|| format!("it has no column `{name}`"))
        };
        let all = |names: &[String]| names.iter().map(find).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            label: find(&meant.label)?,
            labels: None,
            plan: meant.plan(),
            scores: all(&meant.scores())?,
            keys: all(&meant.keys)?,
            group: meant.group.as_ref().map(find).transpose()?.map(|it| (it, Codes::default())),
            slices: all(&meant.slices)?
                .into_iter()
                .map(|it| (it, Codes::default(), false))
                .collect(),
            label_values: Vec::new(),
            score_values: Vec::new(),
            names: Vec::new(),
        })
    }

    fn add(&mut self, batch: &RecordBatch, wanted: Wanted) -> Result<(), Failure> {
        let canonical = |array: &ArrayRef| -> Result<ArrayRef, Failure> {
            declared_type(array.data_type())
                .and_then(|ty| cast(array, ty, false))
                .map(|it| it.array)
                .ok_or_else(|| internal(format_args!("a prediction of type {}", array.data_type())))
        };
        let is_labeled = present(&canonical(batch.column(self.label))?);
        let is_wanted = match wanted {
            Wanted::Labeled => is_labeled,
            Wanted::Unlabeled => !&is_labeled,
        };
        let batch = filter_record_batch(batch, &BooleanArray::new(is_wanted, None))
            .map_err(|error| internal(format_args!("predictions: {error}")))?;
        let n = batch.num_rows();

        let label = canonical(batch.column(self.label))?;
        let labels = self.labels.get_or_insert_with(|| Labels::new(label.data_type(), &self.plan));
        let from = self.label_values.len();
        match wanted {
            Wanted::Labeled => labels.append(&label, &mut self.label_values),
            Wanted::Unlabeled => self.label_values.resize(from + n, f32::NAN),
        }
        if wanted == Wanted::Labeled
            && let Labels::Class(_) = labels
            && let Some(row) = self.label_values[from..]
                .iter()
                .position(|it| it.to_bits() == CLASS_UNKNOWN.to_bits())
        {
            return Err(FitError::ClassUnseen {
                column: self.plan.column().to_owned(),
                class: shown(&label, row),
                classes: self.plan.classes().iter().take(20).cloned().collect(),
                place: format!("labelled row {} of the predictions", from + row + 1),
            }
            .into());
        }

        let scores = self
            .scores
            .iter()
            .map(|it| {
                batch
                    .column(*it)
                    .as_primitive_opt::<Float32Type>()
                    .ok_or_else(|| internal("a score column is not of type float"))
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        for i in 0..n {
            self.score_values.extend(scores.iter().map(|it| it.value(i)));
        }

        let keys = self
            .keys
            .iter()
            .map(|it| canonical(batch.column(*it)))
            .collect::<Result<Vec<_>, _>>()?;
        if !keys.is_empty() {
            let mut name = String::new();
            for i in 0..n {
                name.clear();
                for (at, key) in keys.iter().enumerate() {
                    if 0 < at {
                        name.push('/');
                    }
                    write_value(key, i, &mut name);
                }
                self.names.push(name.clone());
            }
        }
        if let Some((column, codes)) = &mut self.group {
            let column = canonical(batch.column(*column))?;
            for i in 0..n {
                codes.add(value_text(&column, i).as_deref(), None);
            }
        }
        for (column, codes, is_family) in &mut self.slices {
            let column = batch.column(*column);
            *is_family = column.data_type() != &DataType::Boolean;
            if *is_family {
                let texts = canonical(column)?;
                let texts = crate::text::Texts::of(&texts);
                for i in 0..n {
                    codes.add(texts.get(i), Some(SliceColumn::NONE));
                }
            } else {
                let is_in = column.as_boolean();
                for i in 0..n {
                    let is_in = is_in.is_valid(i) && is_in.value(i);
                    codes.add(is_in.then_some(""), Some(SliceColumn::NONE));
                }
            }
        }
        Ok(())
    }

    fn finish(self, meant: Meaning) -> ScoredRows {
        let slices = self
            .slices
            .into_iter()
            .zip(&meant.slices)
            .map(|((_, codes, is_family), name)| {
                let (values, codes) = codes.sorted();
                let name = name.strip_prefix(SLICE_PREFIX).unwrap_or(name).to_owned();
                // A predicate that holds for no row still is one slice.
                let values = if is_family { values } else { vec![String::new()] };
                SliceColumn { name, values, codes, is_family }
            })
            .collect();
        ScoredRows {
            task: meant.task,
            classes: meant.classes,
            rows: meant.rows,
            label: self.label_values,
            score: self.score_values,
            slices,
            group: self.group.map(|(_, codes)| codes.rows),
            votes: None,
            names: self.names,
        }
    }
}
