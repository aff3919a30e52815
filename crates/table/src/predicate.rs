//! SQL predicates over the columns of a schema, evaluated batch by batch with DataFusion's expressions.
//!
//! Column names are taken as written (no folding to lower case). A row for which the predicate is NULL is not in.
//! Only functions that always give the same answer are allowed: a split must hold the same rows tomorrow.
//!
//! Reading order: [`Predicate::compile`], [`Predicate::mask`].

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::{SessionConfig, SessionContext};
use karat_core::{ColumnType, Failure, Schema, nearest};

use crate::{
    cast::{canonical_type, plain_text},
    error::RuleError,
    read::Block,
};

/// A compiled predicate.
#[derive(Debug)]
pub(crate) struct Predicate {
    rule: String,
    text: String,
    columns: Vec<String>,
    schema: SchemaRef,
    expression: Arc<dyn PhysicalExpr>,
}

fn context() -> &'static SessionContext {
    static CONTEXT: OnceLock<SessionContext> = OnceLock::new();
    CONTEXT.get_or_init(|| {
        let config = SessionConfig::new()
            .set_bool("datafusion.sql_parser.enable_ident_normalization", false);
        SessionContext::new_with_config(config)
    })
}

impl Predicate {
    /// Compiles `text`, the predicate of `rule` (as messages call it), over the columns of `schema`.
    pub(crate) fn compile(rule: &str, text: &str, schema: &Schema) -> Result<Self, RuleError> {
        let field = |name: &str, ty: ColumnType| Field::new(name, canonical_type(ty), true);
        let all = ArrowSchema::new(
            schema
                .columns
                .iter()
                // SQL has nothing to say about pixels.
                .filter(|it| it.ty != ColumnType::Image)
                .map(|it| field(&it.name, it.ty))
                .collect::<Vec<_>>(),
        );
        let refuse = |error: &DataFusionError| refusal(rule, text, schema, error);
        let all = DFSchema::try_from(all).map_err(|error| refuse(&error))?;
        let parsed = context().parse_sql_expr(text, &all).map_err(|error| refuse(&error))?;
        refuse_unrepeatable(rule, text, &parsed)?;
        let mut columns: Vec<String> =
            parsed.column_refs().iter().map(|it| it.name.clone()).collect();
        columns.sort_unstable();
        columns.dedup();
        let own = ArrowSchema::new(
            columns
                .iter()
                .filter_map(|name| schema.column(name))
                .map(|it| field(&it.name, it.ty))
                .collect::<Vec<_>>(),
        );
        let own_schema = DFSchema::try_from(own.clone()).map_err(|error| refuse(&error))?;
        let expression =
            context().create_physical_expr(parsed, &own_schema).map_err(|error| refuse(&error))?;
        let found = expression.data_type(&own).map_err(|error| refuse(&error))?;
        if found != DataType::Boolean {
            return Err(RuleError::NotBoolean {
                rule: rule.to_owned(),
                predicate: text.to_owned(),
                found: found.to_string(),
            });
        }
        let schema = Arc::new(own);
        Ok(Self { rule: rule.to_owned(), text: text.to_owned(), columns, schema, expression })
    }

    /// The columns it looks at.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The rows for which it holds.
    pub(crate) fn mask(&self, block: &Block) -> Result<BooleanBuffer, Failure> {
        let failed = |error: &DataFusionError| {
            Failure::from(RuleError::Predicate {
                rule: self.rule.clone(),
                predicate: self.text.clone(),
                reason: one_line(error),
                near: Vec::new(),
            })
        };
        let arrays = self
            .columns
            .iter()
            .map(|name| {
                let array = block.array(name)?;
                let is_text = matches!(array.data_type(), DataType::Dictionary(..));
                Ok(if is_text { plain_text(array) } else { Arc::clone(array) })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(block.n_rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|error| failed(&error.into()))?;
        let result = self
            .expression
            .evaluate(&batch)
            .and_then(|it| it.into_array(block.n_rows))
            .map_err(|error| failed(&error))?;
        let result = result.as_boolean();
        Ok(match result.nulls() {
            Some(nulls) => result.values() & nulls.inner(),
            None => result.values().clone(),
        })
    }
}

fn refuse_unrepeatable(rule: &str, text: &str, parsed: &Expr) -> Result<(), RuleError> {
    let mut function = None;
    // The walk itself cannot fail: its closure never does.
    let _ = parsed.apply(|node| {
        if let Expr::ScalarFunction(call) = node
            && call.func.signature().volatility != Volatility::Immutable
        {
            function = Some(call.name().to_owned());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    match function {
        None => Ok(()),
        Some(function) => Err(RuleError::NotRepeatable {
            rule: rule.to_owned(),
            predicate: text.to_owned(),
            function,
        }),
    }
}

fn refusal(rule: &str, text: &str, schema: &Schema, error: &DataFusionError) -> RuleError {
    let reason = one_line(error);
    let asked = reason.split_once("No field named ").map(|(_, rest)| {
        rest.chars()
            .take_while(|it| it.is_alphanumeric() || "_\"".contains(*it))
            .collect::<String>()
    });
    let (reason, near) = match asked {
        Some(asked) => {
            let asked = asked.trim_matches('"').to_owned();
            let near = nearest(&asked, schema.columns.iter().map(|it| it.name.as_str()));
            (
                format!("no column is called `{asked}`"),
                near.into_iter().map(str::to_owned).collect(),
            )
        }
        None => (reason, Vec::new()),
    };
    RuleError::Predicate { rule: rule.to_owned(), predicate: text.to_owned(), reason, near }
}

fn one_line(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let line = text.lines().next().unwrap_or_default();
    let line = ["Error during planning: ", "Schema error: ", "SQL error: ", "Arrow error: "]
        .into_iter()
        .fold(line, |line, prefix| line.strip_prefix(prefix).unwrap_or(line));
    line.chars().take(200).collect()
}
