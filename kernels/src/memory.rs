//! Memory of finished work, used again.
//!
//! Fresh memory costs a page fault for every 4 KiB and is written twice, first with zeros by one thread: of the forward pass of
//! a transformer that was a tenth, of training a network of two layers of 256 a seventh.

use std::sync::{Mutex, PoisonError};

/// Fewer elements are not worth keeping: an allocator's own lists are as good.
pub(crate) const RETIRED_LEN_MIN: usize = 1 << 16;
/// Buffers kept: what one layer of a large model makes.
const RETIRED_MAX: usize = 8;

/// Oldest first.
static RETIRED: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// `n` numbers for an operation that writes every one of them. What they are before is nobody's business: often the content
/// of something retired.
pub(crate) fn unwritten(n: usize) -> Vec<f32> {
    if RETIRED_LEN_MIN <= n {
        let mut retired = RETIRED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = retired.iter().rposition(|it| it.len() == n) {
            return retired.remove(at);
        }
    }
    vec![0.0; n]
}

/// Keeps `elements` for the next one who wants as many.
pub(crate) fn retire(elements: Vec<f32>) {
    if elements.len() < RETIRED_LEN_MIN {
        return;
    }
    let mut retired = RETIRED.lock().unwrap_or_else(PoisonError::into_inner);
    if retired.len() == RETIRED_MAX {
        retired.remove(0);
    }
    retired.push(elements);
}
