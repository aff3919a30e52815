//! How fast, against a peer, in one run.
