//! What the columns of a dataset are: type, role and constraints. Written by `karat init` or
//! `karat snapshot --infer-schema`, edited by people, read from `schema/<dataset>.toml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Document, Exit, Failure, ImageFormat, ImageShape, nearest};

/// Columns of one dataset.
pub const COLUMNS_MAX: usize = 10_000;

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
    /// Pictures, all of one size.
    Image,
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
            Self::Image => "image",
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
    /// Its pixels, standardised by channel.
    Image,
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
    /// Height and width that every image must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[u32; 2]>,
    /// Channels that every image is read as: 1 grey, 3 colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u32>,
    /// The cells are pixels (rows of pixels of channels), not PNG or JPEG files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw: bool,
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
            size: None,
            channels: None,
            raw: false,
        }
    }

    /// How the column becomes numbers: as declared, else by its type.
    #[must_use]
    pub fn feature_kind(&self) -> FeatureKind {
        self.kind.unwrap_or(match self.ty {
            ColumnType::Bool | ColumnType::Text => FeatureKind::Categorical,
            ColumnType::Int | ColumnType::Float => FeatureKind::Numeric,
            ColumnType::Time => FeatureKind::Date,
            ColumnType::Image => FeatureKind::Image,
        })
    }

    /// How its images are to be read; `None` for a column of another type.
    #[must_use]
    pub fn image(&self) -> Option<ImageFormat> {
        let ([height, width], channels) = (self.size?, self.channels?);
        let shape = ImageShape { channels, height, width };
        (self.ty == ColumnType::Image).then_some(ImageFormat { shape, is_raw: self.raw })
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

    /// The feature column that holds images, if there is one.
    #[must_use]
    pub fn image(&self) -> Option<&Column> {
        self.features().find(|it| it.ty == ColumnType::Image)
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSchema {
    version: u32,
    #[serde(default)]
    column: BTreeMap<String, Column>,
}

/// Reads and validates `schema/<dataset>.toml`.
pub fn read(document: &Document) -> Result<Schema, Failure> {
    let mut raw: RawSchema = document.read()?;
    if raw.version != 1 {
        return Err(
            document.refuse("version", format!("`version` is {}, this build reads 1", raw.version))
        );
    }
    if COLUMNS_MAX < raw.column.len() {
        return Err(document.refuse(
            "column",
            format!("{} columns, at most {COLUMNS_MAX} are read", raw.column.len()),
        ));
    }
    // serde sorts the map; the file's own order is what features keep.
    let order = document.table().get("column").and_then(toml::Value::as_table);
    let mut columns = Vec::with_capacity(raw.column.len());
    for name in order.into_iter().flat_map(toml::Table::keys) {
        if let Some(mut column) = raw.column.remove(name) {
            column.name.clone_from(name);
            columns.push(column);
        }
    }
    let schema = Schema { columns };
    validate(document, &schema)?;
    Ok(schema)
}

fn validate(document: &Document, schema: &Schema) -> Result<(), Failure> {
    for role in [Role::Label, Role::Group, Role::Weight, Role::Time] {
        let names: Vec<&str> = schema.names(role).collect();
        if let [first, second, ..] = names[..] {
            return Err(document.refuse(
                &format!("column.{second}.role"),
                format!(
                    "columns `{first}` and `{second}` both have role `{role:?}`, at most one may"
                )
                .to_lowercase(),
            ));
        }
    }
    let images: Vec<&str> = schema
        .features()
        .filter(|it| it.ty == ColumnType::Image)
        .map(|it| it.name.as_str())
        .collect();
    if let [first, second, ..] = images[..] {
        return Err(document.refuse(
            &format!("column.{second}.type"),
            format!("columns `{first}` and `{second}` both hold images, at most one feature may"),
        ));
    }
    for column in &schema.columns {
        let key = format!("column.{}", column.name);
        validate_image(document, &key, column)?;
        if column.known_after && column.role == Role::Feature {
            // Left to the check `leak.after`, so that the report shows it beside every other finding.
            continue;
        }
        if let Some(share) = column.missing_max
            && !(0.0..=1.0).contains(&share)
        {
            return Err(document.refuse(
                &format!("{key}.missing_max"),
                format!("`{key}.missing_max` is {share}, must be between 0 and 1"),
            ));
        }
        if let (Some(min), Some(max)) = (column.min, column.max)
            && max < min
        {
            return Err(document
                .refuse(&format!("{key}.min"), format!("`{key}`: min {min} is above max {max}")));
        }
        if (column.min.is_some() || column.max.is_some())
            && matches!(column.ty, ColumnType::Text | ColumnType::Bool | ColumnType::Image)
        {
            return Err(document.refuse(
                &key,
                format!("`{key}`: min and max have no meaning for type `{}`", column.ty.word()),
            ));
        }
        let wanted = match column.role {
            Role::Time if column.ty != ColumnType::Time => "time",
            Role::Weight if !matches!(column.ty, ColumnType::Int | ColumnType::Float) => {
                "int or float"
            }
            _ => continue,
        };
        return Err(document.refuse(
            &format!("{key}.type"),
            format!("`{key}` has type `{}`, its role needs {wanted}", column.ty.word()),
        ));
    }
    Ok(())
}

/// What only an image column has, and what it cannot have.
fn validate_image(document: &Document, key: &str, column: &Column) -> Result<(), Failure> {
    let refuse =
        |part: &str, message: String| Err(document.refuse(&format!("{key}{part}"), message));
    if column.ty != ColumnType::Image {
        if column.size.is_some() || column.channels.is_some() || column.raw {
            return refuse(
                "",
                format!(
                    "`{key}`: size, channels and raw have no meaning for type `{}`",
                    column.ty.word()
                ),
            );
        }
        return match column.kind {
            Some(FeatureKind::Image) => {
                refuse(".kind", format!("`{key}`: kind `image` needs type `image`"))
            }
            _ => Ok(()),
        };
    }
    let Some(format) = column.image() else {
        return refuse(
            "",
            format!(
                "`{key}`: an image column needs `size = [HEIGHT, WIDTH]` and `channels = 1` or `3`"
            ),
        );
    };
    if let Some(reason) = format.shape.refusal() {
        return refuse(".size", format!("`{key}`: {reason}"));
    }
    if !matches!(column.role, Role::Feature | Role::Ignore) || column.key {
        return refuse(".role", format!("`{key}`: an image is a feature or ignored, nothing else"));
    }
    if column.domain.is_some() || column.kind.is_some_and(|it| it != FeatureKind::Image) {
        return refuse("", format!("`{key}`: domain and kind have no meaning for type `image`"));
    }
    Ok(())
}

impl Schema {
    /// The column called `name`, or an error that lists near names.
    pub fn expect_column(&self, name: &str, asked_by: &str) -> Result<&Column, Failure> {
        self.column(name).ok_or_else(|| {
            let near = nearest(name, self.columns.iter().map(|it| it.name.as_str()));
            Failure::new(
                "column-unknown",
                Exit::Usage,
                format!("{asked_by} names column `{name}`, which is not in the schema"),
            )
            .detail(format!("the nearest columns are `{}`", near.join("`, `")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Column, ColumnType, Role, Schema, read};
    use crate::Document;

    #[test]
    fn schema_round_trips_in_file_order() {
        let mut late = Column::new("late", ColumnType::Bool, Role::Label);
        late.missing_max = Some(0.05);
        let schema = Schema {
            columns: vec![
                Column::new("z col", ColumnType::Int, Role::Feature),
                late,
                Column::new("a", ColumnType::Text, Role::Key),
            ],
        };
        let text = schema.to_toml();
        let again =
            read(&Document::parse("schema.toml", text.as_str()).expect("valid")).expect("valid");
        assert_eq!(again, schema);
        assert_eq!(again.digest(), schema.digest());
    }

    #[test]
    fn an_image_column_says_its_size_and_keeps_it() {
        let text = "version = 1\n[column.picture]\ntype = \"image\"\nrole = \"feature\"\nsize = [28, 20]\nchannels = 3\n";
        let schema = read(&Document::parse("schema.toml", text).expect("valid")).expect("valid");
        let format = schema.image().and_then(Column::image).expect("an image column");
        assert_eq!((format.shape.to_string().as_str(), format.is_raw), ("28 × 20 colour", false));
        assert_eq!(format.shape.n_bytes(), 3 * 28 * 20);
        let again = schema.to_toml();
        let again = read(&Document::parse("schema.toml", again.as_str()).expect("valid"));
        assert_eq!(again.expect("valid"), schema);
    }

    #[test]
    fn an_image_column_that_cannot_be_is_refused() {
        let good = "type = \"image\"\nrole = \"feature\"\nsize = [28, 20]\nchannels = 3\n";
        for (from, to) in [
            ("size = [28, 20]\n", ""),
            ("channels = 3\n", ""),
            ("channels = 3", "channels = 4"),
            ("[28, 20]", "[0, 20]"),
            ("[28, 20]", "[28, 20000]"),
            ("[28, 20]", "[8000, 8000]"),
            ("\"feature\"", "\"label\""),
            ("\"feature\"", "\"feature\"\nkey = true"),
            ("\"feature\"", "\"feature\"\nkind = \"numeric\""),
            ("\"feature\"", "\"feature\"\nmin = 0"),
            ("\"image\"", "\"text\""),
        ] {
            assert!(good.contains(from), "{from}");
            let text = format!("version = 1\n[column.p]\n{}", good.replacen(from, to, 1));
            let document = Document::parse("schema.toml", text).expect("valid TOML");
            let failure = read(&document).expect_err(to);
            assert_eq!(failure.code.as_str(), "spec-invalid", "{to}: {failure}");
        }
        let two = format!("version = 1\n[column.p]\n{good}[column.q]\n{good}");
        let failure = read(&Document::parse("s.toml", two).expect("valid TOML")).expect_err("two");
        assert!(failure.message.contains("`p` and `q`"), "{failure}");
    }

    #[test]
    fn contradictions_are_refused() {
        for text in [
            "version = 1\n[column.a]\ntype = \"int\"\nrole = \"label\"\n[column.b]\ntype = \"int\"\nrole = \"label\"\n",
            "version = 1\n[column.a]\ntype = \"int\"\nrole = \"time\"\n",
            "version = 1\n[column.a]\ntype = \"int\"\nrole = \"feature\"\nmin = 3\nmax = 1\n",
            "version = 1\n[column.a]\ntype = \"text\"\nrole = \"feature\"\nmin = 3\n",
            "version = 1\n[column.a]\ntype = \"text\"\nrole = \"feature\"\nmissing_max = 3\n",
            "version = 1\n[column.a]\ntype = \"txt\"\nrole = \"feature\"\n",
            "version = 9\n",
        ] {
            let document = Document::parse("schema.toml", text).expect("valid TOML");
            assert!(read(&document).is_err(), "{text}");
        }
    }
}
