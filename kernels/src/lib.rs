//! One file an operation: formula, reference, fused CPU code, backward pass, parity tests.
