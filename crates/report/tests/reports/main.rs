//! Every renderer on the same summaries: a plausible one, pinned byte for byte in `tests/golden`, and hostile ones, whose
//! every text tries to break out. `UPDATE_EXPECT=1 cargo test -p karat-report` rewrites the pinned files.

mod contrast;
mod corpus;
mod golden;
mod headlines;
mod hostile;
mod length;
mod outputs;
mod story;
mod summaries;
mod xml;
