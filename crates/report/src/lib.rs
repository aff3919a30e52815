//! Pure renderers: values in, text out.
//!
//! In: a [`RunSummary`](karat_core::summary::RunSummary). Out: one file of the reports folder as text. No file is
//! opened, no clock read: rendering the same summary again gives the same bytes.
//!
//! The same content goes out in every format, so that no place tells another story: `sections` and `record`
//! turn a summary into titles, tables and charts once, and Markdown, HTML and the model card only draw them. Names and values come from
//! data files and from changes under review, so they are hostile until `escape` has seen them.
//!
//! Reading order: `content` (the shapes), `sections` (what is said), [`number`] and `escape` (how), then one file per
//! format.

mod chart;
mod content;
mod escape;
mod html;
mod json;
mod junit;
mod markdown;
mod metrics_json;
mod model_card;
pub mod number;
mod openmetrics;
mod record;
mod sections;

pub use html::report_html;
pub use json::{report_json, verdict_json};
pub use junit::junit_xml;
pub use markdown::{REPORT_MD_LEN_MAX, report_md, spark};
pub use metrics_json::metrics_json;
pub use model_card::model_card;
pub use openmetrics::openmetrics;
