//! The files that `karat init` writes: commented, and running as they stand.

use std::collections::BTreeSet;

use karat_core::{Task, id::NAME_LEN_MAX, thousands};

/// What was seen in the data.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) data: String,
    pub(crate) label: String,
    pub(crate) label_is_int: bool,
    pub(crate) task: Task,
    pub(crate) n_rows: u64,
    pub(crate) time: Option<String>,
    /// Name and column of each family of slices.
    pub(crate) slices: Vec<(String, String)>,
    pub(crate) has_key: bool,
    /// The features are one column of images and nothing else.
    pub(crate) is_images: bool,
    pub(crate) label_mean: Option<f64>,
}

impl Found {
    /// The task in one word.
    pub(crate) fn task_word(&self) -> &'static str {
        match self.task {
            Task::Binary => "binary",
            Task::Multiclass => "multiclass",
            Task::Regression => "regression",
        }
    }
}

/// `karat.toml`.
pub(crate) fn project_toml(found: &Found) -> String {
    let Found { name, .. } = found;
    let quoted_data = quote(&found.data);
    let quoted_key = key(name);
    let batch = match found.n_rows {
        0..2_000 => 32,
        2_000..50_000 => 128,
        _ if found.is_images => 128,
        _ => 1024,
    };
    let model = if found.is_images {
        "preset = \"cnn\"                         # or \"resnet\", \"mlp\"; says what is not said here"
    } else {
        "preset = \"mlp\"                         # or \"linear\", \"resmlp\", \"ft_transformer\"; says what is not said here\n\
         hidden = [128, 64]"
    };
    let epochs = if found.n_rows < 20_000 { 30 } else { 5 };
    let by = if found.has_key {
        "a hash of the key"
    } else {
        "a hash of the whole row (the schema names no key)"
    };
    let time = match &found.time {
        Some(column) => format!(
            "# Column {} is a time. Where the model will be used on later rows, judge it on later rows:\n\
             #   train   = {{ time = [\"\", \"2024-01-01\"] }}\n\
             #   holdout = {{ time = [\"2024-01-01\", \"\"] }}\n",
            quote(column)
        ),
        None => String::new(),
    };
    let slices = if found.slices.is_empty() {
        "# [slice]\n# late_evening = { where = \"hour >= 17\" }      # rows for which an SQL predicate holds\n".to_owned()
    } else {
        let lines: Vec<String> = found
            .slices
            .iter()
            .map(|(name, column)| format!("{} = {{ values = {} }}", key(name), quote(column)))
            .collect();
        format!(
            "[slice]\n{}\n# late_evening = {{ where = \"hour >= 17\" }}      # rows for which an SQL predicate holds\n",
            lines.join("\n")
        )
    };
    let task = if found.label_is_int {
        format!(
            "task = \"{}\"                     # the label is a whole number: binary, multiclass or regression\n",
            found.task_word()
        )
    } else {
        format!("# task = \"{}\"                   # as the label's type says\n", found.task_word())
    };
    format!(
        r#"# Written by `karat init`. Every line that starts with `# name =` shows a default.
version = 1

[project]
name = "{name}"

# {rows} rows when this was written. A pattern may name many files: Parquet, CSV (plain, .gz, .zst), JSON lines, Arrow.
[dataset.{quoted_key}]
files = {quoted_data}
schema = "schema/{name}.toml"

# Disjoint parts of the rows, by rule. `hash` takes percentages of {by}: a row keeps its place when
# rows are added. `where` takes an SQL predicate.
{time}[split.{quoted_key}]
train = {{ hash = [0, 70] }}
eval = {{ hash = [70, 80] }}            # early stopping looks at these
holdout = {{ hash = [80, 100] }}        # the gate looks at these, training never does

# Subsets of rows that the report shows and the gate can guard.
{slices}
[train]
dataset = "{name}"
{model}
{task}seed = 7
epochs = {epochs}
batch_size = {batch}
early_stopping = 5                     # evaluations without gain; 0 = off
# optimizer = "adamw"                  # or "sgd", "lion"
# learning_rate = 0.001
# schedule = "cosine"                  # or "constant", "linear", "step", "one-cycle"
# weight_decay = 0.01
# dropout = 0.0
# label_smoothing = 0.0
# ema = 0.0                            # 0.999 keeps an average of the weights and uses that
# class_weights = "none"               # or "balanced", or {{ "yes" = 3.0 }}
# sampling = "uniform"                 # or "balanced", "weight"
# device = "auto"                      # or "cpu", "wgpu", "cuda"; `karat doctor --device all` says what works
# memory_max = "6 GiB"                 # a batch that does not fit goes through in parts

[score]
split = "holdout"
# quarantine_max = 0.0                 # share of rows that may fail to be scored
"#,
        rows = thousands(found.n_rows),
    )
}

/// `gate.toml`.
pub(crate) fn gate_toml(found: &Found) -> String {
    let (floor, change, slices) = match found.task {
        Task::Binary => (
            "metric = \"auc\"\nmin = 0.6                              # 0.5 is chance; raise it to what you need",
            "metric = \"auc\"",
            "max_regression = { absolute = 0.01 }",
        ),
        Task::Multiclass => (
            "metric = \"accuracy\"\nmin = 0.5                              # raise it to what you need",
            "metric = \"accuracy\"",
            "max_regression = { absolute = 0.01 }",
        ),
        Task::Regression => (
            "metric = \"r2\"\nmin = 0.1                              # 0 is predicting the mean; raise it to what you need",
            "metric = \"rmse\"",
            "max_regression = { relative = 0.02 }",
        ),
    };
    let family = match found.slices.first() {
        Some((name, column)) => format!(
            "\n[[gate.release.rule]]\nname = {}\n{change}\nslices = [\"{name}=*\"]                     # every value with enough rows\n{}\nn_rows_min = 200\n",
            quote(&format!("not worse for any {column}")),
            slices.replace("0.01", "0.05").replace("0.02", "0.10"),
        ),
        None => String::new(),
    };
    let alarm = match found.task {
        Task::Regression => String::new(),
        _ => format!(
            "\n[[gate.release.rule]]\nname = \"too good to be true\"            # a leak looks like a miracle\n{change}\nmax_improvement = {{ absolute = 0.10 }}\nseverity = \"warn\"\n"
        ),
    };
    let mean = match (found.task, found.label_mean) {
        (Task::Regression, Some(mean)) => {
            format!("# The label's mean was {mean:.4} when this was written.\n")
        }
        (Task::Binary, Some(mean)) => format!(
            "# The label was positive in {:.1} % of the rows when this was written.\n",
            100.0 * mean
        ),
        _ => String::new(),
    };
    format!(
        r#"# Written by `karat init`: the policy. In CI it is read from the base branch.
# A rule compares an interval with its bound, never a point: pass, fail, or inconclusive with the rows still needed.
{mean}version = 1

[gate.release]
baseline = "@champion"                 # an alias, a version "@3", "naive", or "none"
reliability = 0.95                     # each one-sided decision is right this often
without_baseline = "absolute-rules-only"   # the first version has nothing to be compared with; "fail" refuses it
inconclusive = "block"                 # or "allow"

[[gate.release.rule]]
name = "good enough"
{floor}

[[gate.release.rule]]
name = "not worse"
{change}
{slices}
{family}{alarm}"#
    )
}

/// A TOML basic string on one line; JSON's escapes are a subset of TOML's.
fn quote(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string().replace('\u{7f}', "\\u007f")
}

/// A TOML key: bare where it may be.
fn key(text: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !text.is_empty() && text.chars().all(is_bare) { text.to_owned() } else { quote(text) }
}

/// Columns with the names of their slices: valid, different, and never `all`, which always exists.
pub(crate) fn slice_names(columns: Vec<String>) -> Vec<(String, String)> {
    let mut taken = BTreeSet::from(["all".to_owned()]);
    columns
        .into_iter()
        .map(|column| {
            let plain: String = column
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
                .collect();
            let base = Some(plain.trim_matches('_')).filter(|it| !it.is_empty()).unwrap_or("slice");
            // Room for a number at the end; what is left is ASCII.
            let base = &base[..base.len().min(NAME_LEN_MAX - 4)];
            let numbered = (2_u32..).map(|n| format!("{base}_{n}"));
            let name = std::iter::once(base.to_owned())
                .chain(numbered)
                .find(|it| !taken.contains(it))
                .unwrap_or_else(|| base.to_owned());
            taken.insert(name.clone());
            (name, column)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{key, quote, slice_names};

    #[test]
    fn keys_and_strings_read_back_as_they_were() {
        for text in
            ["plain", "a.b", "it \"is\"", "back\\slash", "two\nlines", "\u{7f}\u{1}", "ä", ""]
        {
            let document = format!("{} = {}", key(text), quote(text));
            assert!(!document.contains('\n'), "{document}");
            let table: toml::Table = document.parse().expect("valid TOML");
            assert_eq!(table.get(text).and_then(toml::Value::as_str), Some(text), "{document}");
        }
    }

    #[test]
    fn slice_names_are_valid_and_differ() {
        let long = "x".repeat(80);
        let columns = ["all", "a b", "a.b", "ä", "_", &long, &long].map(str::to_owned).to_vec();
        let names: Vec<String> = slice_names(columns).into_iter().map(|it| it.0).collect();
        assert_eq!(names[..5], ["all_2", "a_b", "a_b_2", "slice", "slice_2"]);
        for name in &names {
            assert!(name.parse::<karat_core::Name>().is_ok(), "{name}");
        }
        assert_ne!(names[5], names[6]);
    }
}
