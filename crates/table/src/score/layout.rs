//! The columns of a predictions file and what its footer says of them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};
use karat_core::{
    ColumnType, Failure, FeaturePlan, Role, Schema, SliceSpec, Task, port::ScoreRequest,
};

use crate::{cast::canonical_type, error::ScoreError};

/// Prefix of slice columns in predictions.
pub(crate) const SLICE_PREFIX: &str = "slice.";

/// The columns of a predictions file.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Columns copied from the input: key, time, group, label, in this order, each once.
    pub(super) copied: Vec<String>,
    /// How many of `copied` are the key, and where the label stands.
    pub(super) n_keys: usize,
    pub(super) label: Option<usize>,
    pub(super) group: Option<String>,
    /// Names of the score columns.
    pub(super) scores: Vec<String>,
    /// Names of the slice columns.
    pub(super) slices: Vec<String>,
    pub(super) schema: SchemaRef,
}

/// The column that stands for the key where the schema has none.
const ROW_COLUMN: &str = "row";

impl Layout {
    pub(super) fn new(
        schema: &Schema,
        plan: &FeaturePlan,
        request: &ScoreRequest<'_>,
    ) -> Result<Self, Failure> {
        let mut copied: Vec<String> = schema.keys().map(|it| it.name.clone()).collect();
        let n_keys = copied.len();
        let add = |name: &str, copied: &mut Vec<String>| {
            if !copied.iter().any(|it| it == name) {
                copied.push(name.to_owned());
            }
        };
        let group = schema.names(Role::Group).next().map(str::to_owned);
        for name in schema.names(Role::Time).chain(group.as_deref()) {
            add(name, &mut copied);
        }
        let label = schema.column(plan.label.column()).map(|it| it.name.clone());
        if let Some(label) = &label {
            add(label, &mut copied);
        }
        let label = label.and_then(|label| copied.iter().position(|it| *it == label));

        let mut fields: Vec<Field> = Vec::new();
        if n_keys == 0 {
            fields.push(Field::new(ROW_COLUMN, DataType::Int64, false));
        }
        for name in &copied {
            let column = schema.expect_column(name, "the schema")?;
            fields.push(Field::new(name, output_type(column.ty), true));
        }
        let scores = match plan.label.task() {
            Task::Binary => vec!["score".to_owned()],
            Task::Regression => vec!["prediction".to_owned()],
            Task::Multiclass => {
                plan.label.classes().iter().map(|class| format!("score_{class}")).collect()
            }
        };
        fields.extend(scores.iter().map(|it| Field::new(it, DataType::Float32, false)));
        if plan.label.task() == Task::Multiclass {
            fields.push(Field::new("predicted", DataType::Utf8, false));
        }
        let mut slices = Vec::new();
        for (name, slice) in &request.slices {
            let name = format!("{SLICE_PREFIX}{name}");
            let (ty, is_nullable) = match slice {
                SliceSpec::Where(_) => (DataType::Boolean, false),
                SliceSpec::Values(_) => (DataType::Utf8, true),
            };
            fields.push(Field::new(&name, ty, is_nullable));
            slices.push(name);
        }
        for (i, field) in fields.iter().enumerate() {
            if fields[..i].iter().any(|it| it.name() == field.name()) {
                return Err(ScoreError::OutputRepeated { column: field.name().clone() }.into());
            }
        }
        let schema = Arc::new(ArrowSchema::new(fields));
        Ok(Self { copied, n_keys, label, group, scores, slices, schema })
    }

    pub(super) fn metadata(&self, plan: &FeaturePlan) -> Vec<(String, String)> {
        let json = |value: serde_json::Value| value.to_string();
        let mut metadata = vec![
            ("karat.task".to_owned(), task_word(plan.label.task()).to_owned()),
            ("karat.classes".to_owned(), json(serde_json::json!(plan.label.classes()))),
            ("karat.keys".to_owned(), json(serde_json::json!(self.copied[..self.n_keys]))),
            ("karat.slices".to_owned(), json(serde_json::json!(self.slices))),
        ];
        if self.label.is_some() {
            metadata.push(("karat.label".to_owned(), plan.label.column().to_owned()));
        }
        if let Some(group) = &self.group {
            metadata.push(("karat.group".to_owned(), group.clone()));
        }
        metadata
    }
}

/// The word of a task in metadata.
pub(crate) const fn task_word(task: Task) -> &'static str {
    match task {
        Task::Binary => "binary",
        Task::Multiclass => "multiclass",
        Task::Regression => "regression",
    }
}

/// The type of a declared column in predictions: times say that they are UTC.
fn output_type(ty: ColumnType) -> DataType {
    match ty {
        ColumnType::Time => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        other => canonical_type(other),
    }
}
