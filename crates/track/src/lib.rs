//! Runs and versions as an MLflow server shows them: a window on our records, never the record.
//!
//! What is told is a [`Record`], plain values made from the store by whoever calls. [`Server::tell`] says it in the order in
//! which MLflow wants it, and says nothing twice: a run that is there already only gets what is new. The server may be down,
//! slow, full or hostile. Then there is an error for a warning, and nothing else: no verdict and no exit code hang on it.
//!
//! What is sent: MLflow's REST API 2.0, which GitLab, Databricks and others speak too. Answers are read up to a limit, no
//! redirect is followed, and a token goes to the one address it was given for.
//!
//! Reading order: [`Record`], [`Server`], `address`, `http`, `limits`, `tell`.

mod address;
mod error;
mod http;
mod limits;
mod record;
mod secret;
mod tell;

pub use address::{Address, AddressInvalid};
pub use error::TrackError;
pub use http::Patience;
pub use record::{Artifact, Judgement, Move, Point, Record, Training};
pub use secret::Secret;
pub use tell::{Server, Told};
