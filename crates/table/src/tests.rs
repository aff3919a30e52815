//! The whole port on small files that the tests write themselves.
//!
//! Reading order: [`Desk`] (a project in a folder of its own), then the modules.

mod bad_input;
mod encode;
mod fit;
mod formats;
mod images;
mod infer;
mod measure;
mod score;
mod score_forms;
mod snapshot;
mod splits;

use std::{collections::BTreeMap, fs, path::PathBuf};

use karat_core::{
    Batch, Column, ColumnType, DatasetSpec, Failure, FeaturePlan, Name, Profile, Role, Schema,
    SliceSpec, Snapshot, SplitSpec,
    port::{FitRequest, KnownFile, Located, NeverStop, ScoreRequest, ScoreSummary, Tables as _},
};

use crate::{
    ArrowTables,
    read::{Need, RowStream, Wanted},
    snapshot::Order,
    text::value_text,
};

/// A project in a folder of its own.
struct Desk {
    folder: tempfile::TempDir,
    schema: Schema,
    files: Vec<String>,
    splits: BTreeMap<Name, SplitSpec>,
    threads: usize,
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn predicate(text: &str) -> SplitSpec {
    SplitSpec { predicate: Some(text.to_owned()), ..SplitSpec::default() }
}

/// Columns written as `id int key, x float feature`.
fn schema(text: &str) -> Schema {
    let column = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [name, ty, role] = words[..] else { panic!("`{text}` is not `name type role`") };
        let ty = match ty {
            "bool" => ColumnType::Bool,
            "int" => ColumnType::Int,
            "float" => ColumnType::Float,
            "text" => ColumnType::Text,
            _ => ColumnType::Time,
        };
        let role = match role {
            "label" => Role::Label,
            "key" => Role::Key,
            "group" => Role::Group,
            "weight" => Role::Weight,
            "time" => Role::Time,
            "ignore" => Role::Ignore,
            _ => Role::Feature,
        };
        Column::new(name, ty, role)
    };
    Schema { columns: text.split(',').map(column).collect() }
}

impl Desk {
    /// A project whose dataset is all files of the folder `in`.
    fn new(columns: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("in")).expect("a folder");
        Self {
            folder,
            schema: schema(columns),
            files: vec!["in".to_owned()],
            splits: BTreeMap::new(),
            threads: 2,
        }
    }

    /// A project with one CSV file.
    fn csv(columns: &str, text: &str) -> Self {
        let desk = Self::new(columns);
        desk.write("in/rows.csv", text);
        desk
    }

    fn with_split(mut self, split: &str, spec: SplitSpec) -> Self {
        self.splits.insert(name(split), spec);
        self
    }

    /// The column called `name`, to be changed.
    fn column(&mut self, name: &str) -> &mut Column {
        self.schema.columns.iter_mut().find(|it| it.name == name).expect("a column")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).expect("the folder is writable");
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).expect("text")
    }

    fn tables(&self) -> ArrowTables {
        ArrowTables::new(self.threads, self.path("scratch"))
    }

    fn dataset(&self) -> DatasetSpec {
        DatasetSpec {
            name: name("desk"),
            files: self.files.clone(),
            schema: "schema/desk.toml".to_owned(),
            splits: self.splits.clone(),
        }
    }

    fn infer(&self, label: Option<&str>) -> Result<Schema, Failure> {
        self.tables().infer_schema(self.folder.path(), &self.files, label)
    }

    fn snapshot_with(&self, known: &[KnownFile]) -> Result<(Snapshot, Vec<KnownFile>), Failure> {
        let dataset = self.dataset();
        self.tables().snapshot(self.folder.path(), &dataset, &self.schema, known, &mut |_, _| {})
    }

    fn try_locate(&self) -> Result<Located, Failure> {
        let (snapshot, _) = self.snapshot_with(&[])?;
        Ok(Located {
            snapshot,
            schema: self.schema.clone(),
            dataset: self.dataset(),
            root: self.folder.path().to_owned(),
        })
    }

    fn locate(&self) -> Located {
        self.try_locate().expect("a snapshot")
    }

    fn try_measure(&self) -> Result<Profile, Failure> {
        self.tables().measure(&self.try_locate()?, None, &mut |_, _| {})
    }

    fn measure(&self) -> Profile {
        self.try_measure().expect("a profile")
    }

    fn try_fit(&self, split: &str) -> Result<FeaturePlan, Failure> {
        let request = FitRequest { task: None, positive: None };
        self.tables().fit(&self.try_locate()?, &name(split), &request)
    }

    fn fit(&self, split: &str) -> FeaturePlan {
        self.try_fit(split).expect("a plan")
    }

    /// The rows of `split`, encoded, in order.
    fn try_encode(&self, split: &str, plan: &FeaturePlan) -> Result<Batch, Failure> {
        let mut rows = self.tables().encode(&self.try_locate()?, &name(split), plan)?;
        let all: Vec<u64> = (0..rows.n_rows()).collect();
        let mut batch = Batch::default();
        rows.fetch(&all, &mut batch)?;
        Ok(batch)
    }

    fn encode(&self, split: &str, plan: &FeaturePlan) -> Batch {
        self.try_encode(split, plan).expect("encoded rows")
    }

    /// Every row as text, one column after the other; `-` where a value is missing, `!` where it is wrong.
    fn try_rows(&self) -> Result<Vec<String>, Failure> {
        let located = self.try_locate()?;
        let files = self.tables().verified.files(&located, Order::Path)?;
        let mut wanted = Wanted::default();
        for column in &self.schema.columns {
            wanted.add_column(column, Need::Optional);
        }
        let mut rows = Vec::new();
        for block in RowStream::open(files.found, wanted, self.threads)? {
            let block = block?;
            for i in 0..block.n_rows {
                let shown = block.columns.iter().map(|column| match value_text(&column.array, i) {
                    Some(text) => text,
                    None if column.wrong.as_ref().is_some_and(|it| it.value(i)) => "!".to_owned(),
                    None => "-".to_owned(),
                });
                rows.push(shown.collect::<Vec<_>>().join("|"));
            }
        }
        Ok(rows)
    }

    fn rows(&self) -> Vec<String> {
        self.try_rows().expect("readable rows")
    }

    /// Scores into `out` with `scorer`.
    fn try_score(
        &self,
        plan: &FeaturePlan,
        asked: &Asked<'_>,
        scorer: &mut (dyn FnMut(&Batch) -> Result<Vec<f32>, Failure> + Send),
    ) -> Result<ScoreSummary, Failure> {
        let located = self.try_locate()?;
        let split = asked.split.map(name);
        let split = split.as_ref().map(|it| (it, &self.splits[it]));
        let (out, quarantine) = (self.path(asked.out), self.path("quarantine.jsonl"));
        let slices: Vec<(Name, SliceSpec)> =
            asked.slices.iter().map(|(slice, spec)| (name(slice), spec.clone())).collect();
        let request = ScoreRequest {
            split,
            slices: slices.iter().map(|(name, spec)| (name, spec)).collect(),
            batch_size: asked.batch_size,
            out: &out,
            quarantine: &quarantine,
            quarantine_max: asked.quarantine_max,
            metadata: vec![("karat.model".to_owned(), "sha256:00".to_owned())],
        };
        self.tables().score(&located, plan, &request, scorer, &mut |_, _| {}, &NeverStop)
    }

    /// Scores every row by its first number.
    fn score(&self, plan: &FeaturePlan, asked: &Asked<'_>) -> Result<ScoreSummary, Failure> {
        self.try_score(plan, asked, &mut |batch| Ok(first_number(batch)))
    }
}

/// How a test scores.
struct Asked<'a> {
    out: &'a str,
    split: Option<&'a str>,
    slices: &'a [(&'a str, SliceSpec)],
    batch_size: usize,
    quarantine_max: f64,
}

impl<'a> Asked<'a> {
    fn into(out: &'a str) -> Self {
        Self { out, split: None, slices: &[], batch_size: 4, quarantine_max: 0.0 }
    }
}

/// The first number of every row: a score that is easily checked.
fn first_number(batch: &Batch) -> Vec<f32> {
    batch.numeric.chunks_exact(batch.n_numeric).map(|row| row[0]).collect()
}

/// The failure's code, what the process ends with, and everything it says.
#[track_caller]
fn check<T>(result: Result<T, Failure>, code: &str, exit: u8, facts: &[&str]) {
    let Err(failure) = result else { panic!("`{code}` was expected") };
    let said =
        format!("{}\n{}\n{}", failure, failure.details.join("\n"), failure.causes.join("\n"));
    assert_eq!((failure.code.as_str(), failure.exit.code()), (code, exit), "{said}");
    for fact in facts {
        assert!(said.contains(fact), "no `{fact}` in\n{said}");
    }
    assert!(failure.hints.len() <= 2, "{:?}", failure.hints);
}
