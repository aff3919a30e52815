//! One file a page: `view` reads the values and gives them to a pure function that turns them into markup.

pub(crate) mod artifact;
pub(crate) mod compare;
pub(crate) mod ledger;
pub(crate) mod lineage;
pub(crate) mod model;
pub(crate) mod models;
pub(crate) mod overview;
pub(crate) mod promotions;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod snapshot;
pub(crate) mod snapshots;
pub(crate) mod verdict;
pub(crate) mod verdicts;
pub(crate) mod version;
