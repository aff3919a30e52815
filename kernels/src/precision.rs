//! What products are made of, and the precision that the layers of a piece of code compute in.
//!
//! [`in_precision`] works as PyTorch's `autocast`: it holds for the layers *called* inside, on this thread; a layer remembers it
//! for its way back. So a model is written once, and whoever trains or scores it says in what it multiplies.

use std::cell::Cell;

pub use crate::matmul::Precision;

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Calls `f`, whose layers compute in `precision`.
pub fn in_precision<R>(precision: Precision, f: impl FnOnce() -> R) -> R {
    /// Puts the outer precision back, also when `f` panics.
    struct Outer(Precision);
    impl Drop for Outer {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _outer = Outer(CURRENT.replace(precision));
    f()
}

/// What layers compute in here.
#[must_use]
pub fn current() -> Precision {
    CURRENT.get()
}

#[cfg(test)]
mod tests {
    use super::{Precision, current, in_precision};

    #[test]
    fn holds_inside_only_and_is_put_back_after_a_panic() {
        let inner = in_precision(Precision::Bf16, || {
            (current(), in_precision(Precision::F32, current), current())
        });
        assert_eq!(inner, (Precision::Bf16, Precision::F32, Precision::Bf16));
        assert_eq!(current(), Precision::F32);
        let panicked = std::panic::catch_unwind(|| {
            in_precision(Precision::Bf16, || std::panic::resume_unwind(Box::new(())));
        });
        assert!(panicked.is_err());
        assert_eq!(current(), Precision::F32);
    }
}
