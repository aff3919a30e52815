//! Pure decisions: checks, metrics, intervals, gates.
