//! What happens in which order, and what is true after a crash between any two steps.
