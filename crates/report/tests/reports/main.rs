//! Every renderer on the same two summaries: a plausible one, pinned byte for byte in `tests/golden`, and a hostile one,
//! whose every text tries to break out. `UPDATE_EXPECT=1 cargo test -p karat-report` rewrites the pinned files.

mod golden;
mod headlines;
mod hostile;
mod length;
mod outputs;
mod summaries;
mod xml;
