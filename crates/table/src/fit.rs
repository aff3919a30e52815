//! Fitting the feature plan: statistics of the labelled rows of one split, in one pass.
//!
//! Columns are counted in parallel, each in row order, so the plan does not depend on the number of threads.
//!
//! Reading order: [`fit`], [`Fitted`], [`label_plan`].

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::filter;
use karat_core::{
    Column, ColumnType, Encoding, Failure, Feature, FeatureKind, FeaturePlan, ImagePlan,
    ImageShape, LabelPlan, Name, Role, Schema, Task, nearest,
    plan::VOCABULARY_MAX,
    port::{FitRequest, Located},
};
use rayon::iter::{IntoParallelRefMutIterator as _, ParallelIterator as _};

use crate::{
    cast::{canonical_type, present},
    count::{Counter, Moments, each_number},
    error::FitError,
    image::Census,
    read::{Need, RowStream, Wanted},
    snapshot::Files,
    split::{RowRule, find},
};

/// Classes a label may have.
pub const CLASSES_MAX: usize = 1_000;
/// Whole-number labels with at most so many values are classes, with more they are a quantity.
const WHOLE_CLASSES_MAX: usize = 20;
/// Different values of a column that are counted to choose its vocabulary.
const VALUES_MAX: usize = 2_000_000;

/// The task that a label suggests: by its type and its number of values.
#[must_use]
pub fn suggested_task(ty: ColumnType, n_distinct: usize, is_exact: bool) -> Task {
    match (ty, n_distinct) {
        (ColumnType::Bool, _) => Task::Binary,
        (ColumnType::Text, 0..=2) => Task::Binary,
        (ColumnType::Text, _) => Task::Multiclass,
        (ColumnType::Int | ColumnType::Float, 0..=2) if is_exact => Task::Binary,
        (ColumnType::Int, 3..=WHOLE_CLASSES_MAX) if is_exact => Task::Multiclass,
        _ => Task::Regression,
    }
}

/// A feature column while it is counted.
struct Fitted<'a> {
    column: &'a Column,
    kind: FeatureKind,
    values: Option<Counter>,
    moments: Moments,
    n_present: u64,
    n_missing: u64,
}

impl<'a> Fitted<'a> {
    fn new(column: &'a Column) -> Result<Self, FitError> {
        let kind = column.feature_kind();
        let refuse =
            |kind| Err(FitError::Kind { column: column.name.clone(), kind, ty: column.ty.word() });
        match kind {
            FeatureKind::Numeric if column.ty == ColumnType::Text => return refuse("numeric"),
            FeatureKind::Numeric | FeatureKind::Categorical if column.ty == ColumnType::Image => {
                return refuse("numeric or categorical");
            }
            FeatureKind::Date if column.ty != ColumnType::Time => return refuse("date"),
            _ => {}
        }
        let values = (kind == FeatureKind::Categorical)
            .then(|| Counter::new(&canonical_type(column.ty), VALUES_MAX));
        Ok(Self { column, kind, values, moments: Moments::default(), n_present: 0, n_missing: 0 })
    }

    fn update(&mut self, array: &ArrayRef) {
        let n_present = match &mut self.values {
            Some(values) => {
                values.update(array);
                (array.len() - array.logical_null_count()) as u64
            }
            None => {
                let before = self.moments.n;
                self.moments.update(array);
                self.moments.n - before
            }
        };
        self.n_present += n_present;
        self.n_missing += array.len() as u64 - n_present;
    }

    fn feature(self) -> Feature {
        let missing_flag = 0 < self.n_missing;
        let encoding = match self.kind {
            FeatureKind::Numeric => {
                let (mean, std) = scale(&self.moments);
                Encoding::Numeric { mean, std, missing_flag }
            }
            // `Fitted::new` let no image through.
            FeatureKind::Image | FeatureKind::Date => Encoding::Date { missing_flag },
            FeatureKind::Categorical => {
                let mut values = self.values.map(|it| it.top(VOCABULARY_MAX)).unwrap_or_default();
                values.sort_unstable();
                Encoding::Categorical {
                    vocabulary: values.into_iter().map(|(text, _)| text).collect(),
                }
            }
        };
        Feature { column: self.column.name.clone(), ty: self.column.ty, encoding }
    }
}

/// What the images of the training rows become.
fn image_plan(column: &Column, census: &Census) -> ImagePlan {
    let ImageShape { channels, height, width } = census.shape;
    let (mean, std) = census
        .moments()
        .map(|(mean, std)| (mean / 255.0, if 0.0 < std { std / 255.0 } else { 1.0 }))
        .unzip();
    ImagePlan { column: column.name.clone(), channels, height, width, mean, std }
}

/// Mean and standard deviation; 1 where a column does not vary, so that it becomes 0 and not NaN.
fn scale(moments: &Moments) -> (f64, f64) {
    let std = moments.std().filter(|it| 0.0 < *it && it.is_finite()).unwrap_or(1.0);
    (moments.mean().unwrap_or(0.0), std)
}

/// Fits the plan on the rows of `split` that have a label.
pub(crate) fn fit(
    located: &Located,
    files: &Files,
    split: &Name,
    request: &FitRequest,
    threads: usize,
) -> Result<FeaturePlan, Failure> {
    let schema = &located.schema;
    let rule = RowRule::compile(split, find(located, split)?, schema)?;
    let label = schema.label().ok_or(FitError::NoLabel)?;
    let mut features = features(schema)?;
    let mut image = schema.image().and_then(|it| Some((it, Census::new(it.image()?.shape))));
    let weight = schema.names(Role::Weight).next().map(str::to_owned);

    let mut wanted = Wanted::default();
    for feature in &features {
        wanted.add(&feature.column.name, feature.column.ty, Need::As("a feature"));
    }
    if let Some(column) = schema.image() {
        wanted.add_column(column, Need::As("a feature"));
    }
    wanted.add(&label.name, label.ty, Need::As("the label"));
    rule.want(schema, &mut wanted);

    let mut classes = Counter::new(&canonical_type(label.ty), CLASSES_MAX + 1);
    let mut moments = Moments::default();
    let mut n_rows = 0_u64;
    let mut n_labeled = 0_u64;
    for block in RowStream::open(files.found.clone(), wanted, threads)? {
        let block = block?;
        let is_in = rule.mask(&block)?;
        n_rows += is_in.count_set_bits() as u64;
        let labels = block.array(&label.name)?;
        let mut is_in = &is_in & &present(labels);
        n_labeled += is_in.count_set_bits() as u64;
        if let Some((column, census)) = &mut image {
            let column = block.column(&column.name)?;
            census.add(column, &is_in);
            // A row whose image cannot be read is none of the rows trained on.
            is_in = &is_in & &present(&column.array);
        }
        let is_in = BooleanArray::new(is_in, None);
        let kept = |array: &ArrayRef| -> ArrayRef {
            if is_in.true_count() == is_in.len() {
                ArrayRef::clone(array)
            } else {
                filter(array, &is_in).expect("the mask is as long as the column")
            }
        };
        let labels = kept(labels);
        classes.update(&labels);
        each_number(&labels, |_, x| moments.add(x));
        features.par_iter_mut().try_for_each(|feature| -> Result<(), Failure> {
            feature.update(&kept(block.array(&feature.column.name)?));
            Ok(())
        })?;
    }

    if n_rows == 0 {
        let (split, snapshot) = (split.to_string(), located.snapshot.label());
        return Err(FitError::SplitEmpty { split, snapshot, n_rows: files.n_rows() }.into());
    }
    if let Some((column, census)) = &image {
        let column = column.name.clone();
        if census.has_other_sizes() {
            return Err(FitError::ImageSizes { column, sizes: census.sizes() }.into());
        }
        if census.n == 0 && 0 < n_labeled {
            let (columns, split) = (vec![column], split.to_string());
            return Err(FitError::ColumnMissing { columns, split, n_rows: n_labeled }.into());
        }
    }
    let counted = Labels { column: label, split, classes, moments, n_rows, n_labeled };
    let label = label_plan(&counted, request)?;
    let empty: Vec<String> =
        features.iter().filter(|it| it.n_present == 0).map(|it| it.column.name.clone()).collect();
    if !empty.is_empty() {
        let split = split.to_string();
        return Err(FitError::ColumnMissing { columns: empty, split, n_rows: n_labeled }.into());
    }
    let features = features.into_iter().map(Fitted::feature).collect();
    let image = image.map(|(column, census)| image_plan(column, &census));
    Ok(FeaturePlan { features, label, weight, image })
}

fn features(schema: &Schema) -> Result<Vec<Fitted<'_>>, FitError> {
    let columns: Vec<String> =
        schema.features().filter(|it| it.known_after).map(|it| it.name.clone()).collect();
    if !columns.is_empty() {
        return Err(FitError::KnownAfter { columns });
    }
    let is_scalar = |it: &&Column| it.ty != ColumnType::Image;
    let features =
        schema.features().filter(is_scalar).map(Fitted::new).collect::<Result<Vec<_>, _>>()?;
    if features.is_empty() && schema.image().is_none() {
        Err(FitError::NoFeatures)
    } else {
        Ok(features)
    }
}

/// The label column after counting.
struct Labels<'a> {
    column: &'a Column,
    split: &'a Name,
    classes: Counter,
    moments: Moments,
    n_rows: u64,
    n_labeled: u64,
}

fn label_plan(labels: &Labels<'_>, request: &FitRequest) -> Result<LabelPlan, FitError> {
    let column = labels.column.name.clone();
    let split = labels.split.to_string();
    let ty = labels.column.ty;
    if labels.n_labeled == 0 {
        return Err(FitError::LabelMissing { column, split, n_rows: labels.n_rows });
    }
    let counted = labels.classes.texts();
    if let [(value, _)] = &counted[..] {
        let value = value.clone();
        return Err(FitError::LabelConstant { column, split, value, n_rows: labels.n_labeled });
    }
    let is_exact = labels.classes.is_exact();
    let task = request.task.unwrap_or_else(|| suggested_task(ty, counted.len(), is_exact));
    let refuse_type = |task| FitError::LabelType { column: column.clone(), found: ty.word(), task };
    let refuse_classes = |task, needed: &str| FitError::LabelClasses {
        column: column.clone(),
        found: if is_exact {
            counted.len().to_string()
        } else {
            format!("more than {CLASSES_MAX}")
        },
        task,
        needed: needed.to_owned(),
        classes: counted.iter().take(5).map(|(text, _)| text.clone()).collect(),
    };
    match task {
        Task::Regression => {
            if !matches!(ty, ColumnType::Int | ColumnType::Float) {
                return Err(refuse_type("regression"));
            }
            let (mean, std) = scale(&labels.moments);
            Ok(LabelPlan::Regression { column, mean, std })
        }
        Task::Binary => {
            if ty == ColumnType::Time {
                return Err(refuse_type("binary"));
            }
            let [first, second] = &counted[..] else { return Err(refuse_classes("binary", "2")) };
            let asked = match &request.positive {
                None => None,
                Some(asked) => {
                    Some([first, second].iter().position(|it| it.0 == *asked).ok_or_else(|| {
                        FitError::PositiveUnknown {
                            asked: asked.clone(),
                            column: column.clone(),
                            near: nearest(asked, [first.0.as_str(), second.0.as_str()])
                                .into_iter()
                                .map(str::to_owned)
                                .collect(),
                        }
                    })?)
                }
            };
            let is_positive = |text: &str| matches!(text, "true" | "1" | "yes");
            let positive = asked.unwrap_or(usize::from(!is_positive(&first.0)));
            let (negative, positive) =
                if positive == 1 { (first, second) } else { (second, first) };
            Ok(LabelPlan::Binary {
                column,
                classes: vec![negative.0.clone(), positive.0.clone()],
                counts: vec![negative.1, positive.1],
            })
        }
        Task::Multiclass => {
            if ty == ColumnType::Time {
                return Err(refuse_type("multiclass"));
            }
            if counted.len() < 3 {
                return Err(refuse_classes("multiclass", "3 or more"));
            }
            if CLASSES_MAX < counted.len() || !is_exact {
                return Err(refuse_classes("multiclass", &format!("at most {CLASSES_MAX}")));
            }
            let (classes, counts) = counted.into_iter().unzip();
            Ok(LabelPlan::Multiclass { column, classes, counts })
        }
    }
}
