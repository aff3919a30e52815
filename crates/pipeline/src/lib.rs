//! What happens in which order, and what is true after a crash between any two steps.
//!
//! Written against the two ports of `karat-core`, so that lifecycle tests run in milliseconds with fakes. Every step is
//! recorded as a run under a key of what it was made from; a step whose key is known, and whose outputs are still there
//! and unchanged, is not done again.
//!
//! Reading order: [`whole`], then the steps in order: [`freeze`], [`train`], [`seeds`], [`score`], [`gate`] with
//! `measure`, [`promote`], and beside them [`replay`],
//! [`plan_eval`] and [`sign`]; whose words judge a change under review: [`change`]; how a step is recorded and cached: `lab`.

pub mod change;
pub mod freeze;
pub mod gate;
mod lab;
mod measure;
pub mod model;
pub mod plan_eval;
pub mod promote;
pub mod replay;
pub mod score;
pub mod seeds;
pub mod sign;
pub mod train;
pub mod whole;

pub use freeze::{Checked, Frozen, pointer_file};
pub use gate::{Baseline, Case, Decided, exit_of, pick_gate};
pub use lab::Lab;
pub use model::ModelManifest;
pub use plan_eval::{EvalPlan, PlanOptions};
pub use promote::CHAMPION;
pub use replay::{ReplayOptions, Replayed};
pub use score::{ScoreCost, ScoreOptions, Scored, quarantine_of};
pub use sign::Signer;
pub use train::Trained;
pub use whole::{AfterPass, Whole};
