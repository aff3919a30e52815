//! What the columns of a dataset are: type, role and constraints. Written by `karat init` or
//! `karat snapshot --infer-schema`, edited by people, read from `schema/<dataset>.toml`.

use serde::{Deserialize, Serialize};

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// Whole numbers.
    Int,
    /// Floating point numbers.
    Float,
    /// UTF-8 text.
    Text,
    /// A point in time (dates are times at midnight UTC).
    Time,
}

impl ColumnType {
    /// The word used in schema files and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Text => "text",
            Self::Time => "time",
        }
    }
}

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Goes into the model.
    Feature,
    /// What the model predicts.
    Label,
    /// Names the row, alone or with other keys.
    Key,
    /// Rows with the same value belong together: splits and resampling keep them whole.
    Group,
    /// How much the row counts in the training loss.
    Weight,
    /// When the row became true.
    Time,
    /// Not used by the model.
    Ignore,
}

/// How a feature becomes numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureKind {
    /// Standardised.
    Numeric,
    /// Looked up in a vocabulary.
    Categorical,
    /// Split into date parts.
    Date,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Name in the files.
    #[serde(skip)]
    pub name: String,
    /// What its values are.
    #[serde(rename = "type")]
    pub ty: ColumnType,
    /// What it is for.
    pub role: Role,
    /// A second use of a feature column as part of the key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key: bool,
    /// How it becomes numbers; by type when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<FeatureKind>,
    /// Known only after the moment of prediction: may never be a feature.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub known_after: bool,
    /// Largest allowed share of missing values, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_max: Option<f64>,
    /// Smallest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The allowed values, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Vec<String>>,
    /// No value may occur twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unique: bool,
}

impl Column {
    /// A column without constraints.
    #[must_use]
    pub fn new(name: impl Into<String>, ty: ColumnType, role: Role) -> Self {
        Self {
            name: name.into(),
            ty,
            role,
            key: false,
            kind: None,
            known_after: false,
            missing_max: None,
            min: None,
            max: None,
            domain: None,
            unique: false,
        }
    }

    /// How the column becomes numbers: as declared, else by its type.
    #[must_use]
    pub fn feature_kind(&self) -> FeatureKind {
        self.kind.unwrap_or(match self.ty {
            ColumnType::Bool | ColumnType::Text => FeatureKind::Categorical,
            ColumnType::Int | ColumnType::Float => FeatureKind::Numeric,
            ColumnType::Time => FeatureKind::Date,
        })
    }

    /// Whether the column is part of the row's key.
    #[must_use]
    pub fn is_key(&self) -> bool {
        self.key || self.role == Role::Key
    }
}

/// All columns, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// The columns; names are unique.
    pub columns: Vec<Column>,
}

impl Schema {
    /// The column called `name`.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The names of the columns that have `role`, in order.
    pub fn names(&self, role: Role) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(move |it| it.role == role).map(|it| it.name.as_str())
    }

    /// The columns that make up the row's key, in order. May be empty.
    pub fn keys(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|it| it.is_key())
    }

    /// The one label column, if there is one.
    #[must_use]
    pub fn label(&self) -> Option<&Column> {
        self.columns.iter().find(|it| it.role == Role::Label)
    }

    /// The feature columns, in order.
    pub fn features(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|it| it.role == Role::Feature)
    }

    /// Digest over names, types, roles and constraints: two schemas with equal digests mean the same.
    #[must_use]
    pub fn digest(&self) -> crate::Digest {
        crate::Digest::of(self.to_toml().as_bytes())
    }

    /// The file `schema/<dataset>.toml`: one `[column.<name>]` table a column, in order.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut columns = toml::Table::new();
        for column in &self.columns {
            let table =
                toml::Table::try_from(column).expect("a column is plain strings and numbers");
            columns.insert(column.name.clone(), toml::Value::Table(table));
        }
        let mut root = toml::Table::new();
        root.insert("version".to_owned(), toml::Value::Integer(1));
        root.insert("column".to_owned(), toml::Value::Table(columns));
        toml::to_string(&root).expect("tables and plain values always serialise")
    }
}
