//! Proposing a schema for files nobody has described: types from the values, roles by a few plain rules.
//!
//! People confirm it: the label is never guessed, and bounds on values are left to them.
//!
//! Reading order: [`infer`], [`role`], [`Guess`].

use std::{collections::BTreeMap, path::Path};

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use karat_core::{Column, ColumnType, Failure, Role, Schema, nearest};
use rayon::iter::{
    IndexedParallelIterator as _, IntoParallelRefMutIterator as _, ParallelIterator as _,
};

use crate::{
    cast::{canonical_type, cast, declared_type},
    count::Counter,
    decode::RawFile,
    error::FitError,
    files::{Format, discover},
    image::{self, Encoded, by_count},
    read::READ_ROWS,
    text::{Texts, parse_float, parse_int, parse_time},
};

/// Rows looked at, shared among the files.
const SAMPLE_ROWS: usize = 1_000_000;
/// Rows looked at in every file, however many files there are.
const SAMPLE_ROWS_MIN: usize = 1_000;
/// Different values of a column that are told apart.
const DISTINCT_MAX: usize = 100_000;
/// Share of distinct values above which text names rows and says nothing about them.
const NAMING_SHARE: f64 = 0.9;
/// Rows below which that share means nothing.
const NAMING_ROWS_MIN: u64 = 20;

/// Looks at `patterns` and proposes a schema; `label` gets the role.
pub(crate) fn infer(
    root: &Path,
    patterns: &[String],
    label: Option<&str>,
) -> Result<Schema, Failure> {
    let files = discover(root, patterns)?;
    let sample = (SAMPLE_ROWS / files.len().max(1)).max(SAMPLE_ROWS_MIN);
    let mut guesses: Vec<Guess> = Vec::new();
    let mut n_rows = 0_u64;
    for file in &files {
        let raw = RawFile::open(file)?;
        let readable: Vec<usize> = raw
            .schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| declared_type(field.data_type()).is_some() || raw.idx.is_some())
            .map(|(at, _)| at)
            .collect();
        // Where each column of this file stands among all columns seen.
        let mut slots = Vec::with_capacity(readable.len());
        for at in &readable {
            let field = raw.schema.field(*at);
            let slot =
                guesses.iter().position(|it| it.name == *field.name()).unwrap_or_else(|| {
                    guesses.push(Guess::new(field.name(), n_rows));
                    guesses.len() - 1
                });
            slots.push(slot);
        }
        let n_at_once = raw.rows_at_once(1);
        let mut n_in_file = 0;
        for batch in raw.batches(&readable, n_at_once)? {
            let batch = batch?;
            n_in_file += batch.num_rows();
            guesses.par_iter_mut().enumerate().for_each(|(slot, guess)| {
                match slots.iter().position(|it| *it == slot) {
                    Some(at) => {
                        guess.update(batch.column(at), &raw);
                    }
                    None => guess.n_missing += batch.num_rows() as u64,
                }
            });
            if sample <= n_in_file {
                break;
            }
        }
        n_rows += n_in_file as u64;
    }
    if let Some(asked) = label
        && !guesses.iter().any(|it| it.name == asked)
    {
        let near = nearest(asked, guesses.iter().map(|it| it.name.as_str()));
        return Err(FitError::LabelUnknown {
            asked: asked.to_owned(),
            near: near.into_iter().map(str::to_owned).collect(),
        }
        .into());
    }
    for guess in &guesses {
        guess.images.as_ref().map_or(Ok(()), |images| images.refuse(&guess.name))?;
    }
    let mut has_time = false;
    let columns = guesses
        .iter()
        .map(|guess| {
            if let Some(images) = &guess.images {
                return images.column(&guess.name);
            }
            let ty = guess.ty();
            let is_label = label == Some(guess.name.as_str());
            let role = if is_label { Role::Label } else { role(guess, ty, n_rows, has_time) };
            has_time |= role == Role::Time;
            let mut column = Column::new(&guess.name, ty, role);
            column.missing_max = missing_max(guess.n_missing, n_rows);
            column
        })
        .collect();
    Ok(Schema { columns })
}

/// The share seen and one point more, in whole hundredths of a point; none where nothing was missing.
fn missing_max(n_missing: u64, n_rows: u64) -> Option<f64> {
    if n_missing == 0 {
        return None;
    }
    let share = share(n_missing, n_rows) + 0.01;
    Some(((share * 1e4).ceil() / 1e4).min(1.0))
}

fn share(n: u64, of: u64) -> f64 {
    n as f64 / of.max(1) as f64
}

/// What a column that is not the label seems to be for.
fn role(guess: &Guess, ty: ColumnType, n_rows: u64, has_time: bool) -> Role {
    let name = guess.name.to_ascii_lowercase();
    let distinct = share(guess.n_distinct() as u64, guess.n_counted());
    let is_distinct =
        guess.is_exact() && guess.n_missing == 0 && guess.n_distinct() as u64 == n_rows;
    // Above the limit of counting, only the rows up to there were compared.
    let may_be_key = is_distinct || (!guess.is_exact() && 1.0 <= distinct);
    let names_a_row = matches!(name.as_str(), "id" | "key" | "uuid" | "guid" | "index")
        || name.ends_with("_id")
        || name.ends_with("_key")
        || name.ends_with("_uuid")
        || name.starts_with("id_")
        || guess.name.ends_with("Id")
        || guess.name.ends_with("ID");
    if 1 < n_rows && may_be_key && names_a_row && matches!(ty, ColumnType::Int | ColumnType::Text) {
        return Role::Key;
    }
    let names_a_time =
        ["time", "date", "timestamp"].iter().any(|it| name.contains(it)) || name.ends_with("_at");
    if ty == ColumnType::Time && names_a_time && !has_time {
        return Role::Time;
    }
    if guess.n_distinct() < 2 {
        return Role::Ignore;
    }
    if ty == ColumnType::Text && NAMING_ROWS_MIN <= guess.n_counted() && NAMING_SHARE < distinct {
        return Role::Ignore;
    }
    Role::Feature
}

/// What is known of one column so far.
struct Guess {
    name: String,
    n_missing: u64,
    n_present: u64,
    /// Values counted before there were too many to tell apart.
    n_at_limit: Option<u64>,
    /// By declared type, for files that have types; text is kept apart because its type is still open.
    typed: Option<ColumnType>,
    text: Option<TextGuess>,
    values: Option<Counter>,
    images: Option<Images>,
}

/// The images of a column, by their headers.
#[derive(Default)]
struct Images {
    /// Height and width.
    sizes: BTreeMap<(u32, u32), u64>,
    is_colour: bool,
    /// Why the first that cannot be read cannot.
    unreadable: Option<String>,
}

impl Images {
    /// Those of a batch: bytes of which some are PNG or JPEG, or pixels of an IDX file.
    fn of(raw: &ArrayRef, file: &RawFile) -> Option<Self> {
        if let (DataType::FixedSizeBinary(_), Some(idx)) = (raw.data_type(), &file.idx) {
            let shape = idx.format.shape;
            let sizes = BTreeMap::from([((shape.height, shape.width), raw.len() as u64)]);
            return Some(Self { sizes, ..Self::default() });
        }
        let cells = image::cells(raw)?;
        let is_image_file = file.format() == Format::Image;
        if !is_image_file && !cells.iter().flatten().any(image::is_encoded) {
            return None;
        }
        let mut images = Self::default();
        for cell in cells.iter().flatten() {
            match Encoded::of(cell) {
                Ok(found) => {
                    *images.sizes.entry((found.height, found.width)).or_default() += 1;
                    images.is_colour |= found.is_colour;
                }
                Err(reason) => images.unreadable = images.unreadable.or(Some(reason)),
            }
        }
        Some(images)
    }

    fn join(&mut self, other: Self) {
        for (size, n) in other.sizes {
            *self.sizes.entry(size).or_default() += n;
        }
        self.is_colour |= other.is_colour;
        self.unreadable = self.unreadable.take().or(other.unreadable);
    }

    fn refuse(&self, column: &str) -> Result<(), FitError> {
        let column = column.to_owned();
        match self.sizes.len() {
            0 => {
                let reason = self.unreadable.clone().unwrap_or_else(|| "there is none".to_owned());
                Err(FitError::ImagesUnreadable { column, reason })
            }
            1 => Ok(()),
            _ => Err(FitError::ImageSizes { column, sizes: by_count(self.sizes.clone()) }),
        }
    }

    fn column(&self, name: &str) -> Column {
        let mut column = Column::new(name, ColumnType::Image, Role::Feature);
        column.size = self.sizes.keys().next().map(|(height, width)| [*height, *width]);
        column.channels = Some(if self.is_colour { 3 } else { 1 });
        column
    }
}

/// Which types every text so far parses as.
#[derive(Clone, Copy)]
struct TextGuess {
    bool: bool,
    int: bool,
    float: bool,
    time: bool,
}

impl Guess {
    fn new(name: &str, n_missing: u64) -> Self {
        Self {
            name: name.to_owned(),
            n_missing,
            n_present: 0,
            n_at_limit: None,
            typed: None,
            text: None,
            values: None,
            images: None,
        }
    }

    fn update(&mut self, raw: &ArrayRef, file: &RawFile) {
        if let Some(images) = Images::of(raw, file) {
            return self.images.get_or_insert_default().join(images);
        }
        let is_text = file.is_text();
        let Some(found) = declared_type(raw.data_type()) else { return };
        let Some(cast) = cast(raw, found, file.has_null_words()) else { return };
        let array = cast.array;
        let n_missing = array.logical_null_count() as u64;
        self.n_missing += n_missing;
        self.n_present += array.len() as u64 - n_missing;
        if is_text {
            let guess = self.text.get_or_insert(TextGuess {
                bool: true,
                int: true,
                float: true,
                time: true,
            });
            guess.update(&array);
        } else if array.logical_null_count() < array.len() || self.typed.is_none() {
            self.typed = Some(match self.typed {
                None => found,
                Some(known) if known == found => found,
                Some(ColumnType::Int | ColumnType::Float)
                    if matches!(found, ColumnType::Int | ColumnType::Float) =>
                {
                    ColumnType::Float
                }
                // Files disagree: text can hold either.
                Some(_) => ColumnType::Text,
            });
        }
        let ty = array.data_type().clone();
        let ty =
            if matches!(found, ColumnType::Text) { canonical_type(ColumnType::Text) } else { ty };
        let values = self.values.get_or_insert_with(|| Counter::new(&ty, DISTINCT_MAX));
        if values.counts_like(&ty) {
            values.update(&array);
        }
        if !values.is_exact() && self.n_at_limit.is_none() {
            self.n_at_limit = Some(self.n_present);
        }
    }

    fn n_distinct(&self) -> usize {
        self.values.as_ref().map_or(0, Counter::n_distinct)
    }

    fn is_exact(&self) -> bool {
        self.values.as_ref().is_none_or(Counter::is_exact)
    }

    /// Rows among which distinct values were told apart.
    fn n_counted(&self) -> u64 {
        // The batch in which the limit was reached counts at most its distinct values.
        self.n_at_limit.map_or(self.n_present, |it| {
            it.saturating_sub(READ_ROWS as u64).max(DISTINCT_MAX as u64)
        })
    }

    fn ty(&self) -> ColumnType {
        let text = self.text.filter(|_| 0 < self.n_present).map(|it| match it {
            TextGuess { bool: true, .. } => ColumnType::Bool,
            TextGuess { int: true, .. } => ColumnType::Int,
            TextGuess { float: true, .. } => ColumnType::Float,
            TextGuess { time: true, .. } => ColumnType::Time,
            _ => ColumnType::Text,
        });
        match (self.typed, text) {
            (Some(typed), Some(text)) if typed != text => ColumnType::Text,
            (Some(ty), _) | (None, Some(ty)) => ty,
            (None, None) => ColumnType::Text,
        }
    }
}

impl TextGuess {
    fn update(&mut self, array: &ArrayRef) {
        let texts = Texts::of(array);
        for i in 0..array.len() {
            if let Some(text) = texts.get(i) {
                self.narrow(text);
            }
        }
    }

    fn narrow(&mut self, text: &str) {
        // 0 and 1 are numbers until something says otherwise.
        self.bool =
            self.bool && (text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"));
        let is_code = is_code(text);
        self.int = self.int && !is_code && parse_int(text).is_some();
        self.float = self.float && !is_code && parse_float(text).is_some();
        self.time = self.time && parse_time(text).is_some();
    }
}

/// Digits that are a name and not a number: `01234`, or more than a number holds.
fn is_code(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_whole = digits.bytes().all(|it| it.is_ascii_digit());
    is_whole
        && ((1 < digits.len() && digits.starts_with('0'))
            || (18 < digits.len() && parse_int(text).is_none()))
}
