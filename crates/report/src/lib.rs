//! Pure renderers: values in, text out.
//!
//! In: a [`RunSummary`](karat_core::summary::RunSummary). Out: one file of the reports folder as text. No file is
//! opened, no clock read: rendering the same summary again gives the same bytes.
//!
//! The same content goes out in every format, so that no place tells another story: `sections` and the files it names
//! turn a summary into titles, tables and charts once, and Markdown, HTML and the model card only draw them. Names and
//! values come from data files and from changes under review, so they are hostile until `escape` has seen them.
//!
//! Reading order: `content` (the shapes), `sections` (what is said), [`number`] and `escape` (how), then one file per
//! format.

mod chart;
mod code_quality;
mod content;
mod curves;
mod escape;
mod evidence;
mod github;
mod html;
mod json;
mod junit;
mod markdown;
mod metrics_json;
mod model_card;
pub mod number;
mod openmetrics;
mod places;
mod record;
mod sections;
mod slices;

pub use code_quality::code_quality;
pub use escape::markup;
pub use github::{ANNOTATIONS_MAX, Annotation, Level, annotations, github_outputs};
pub use html::{
    STYLE, curves_html, outcome_html, report_html, verdict_html, verdict_line_html, words_html,
};
pub use json::{report_json, verdict_json};
pub use junit::junit_xml;
pub use markdown::{
    REPORT_MD_LEN_MAX, STEP_SUMMARY_LEN_MAX, comment_marker, comment_md, report_md, spark,
    step_summary,
};
pub use metrics_json::metrics_json;
pub use model_card::model_card;
pub use openmetrics::openmetrics;
pub use places::Places;
