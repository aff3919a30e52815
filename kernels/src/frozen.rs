//! Weights that do not change while rows stream through a model: packed for the first part, found packed by all others.
//!
//! [`with_frozen`] holds for the layers *called* inside, on this thread, as [`crate::precision::in_precision`] does: a model is
//! written once, and whoever scores with it says that its weights stay. A weight is known by where it lies. Its tensor is kept
//! along, so nothing else can come to lie there, and whoever would write into it in place writes into a copy.
//!
//! Why: 512 rows of a 256 × 256 layer take 0.6 ms of products and 20 µs of packing.

use std::{
    cell::RefCell,
    sync::{Arc, PoisonError, RwLock},
};

use burn_flex::FlexTensor;

use crate::{
    flex::{contiguous, dim, floats},
    matmul::{Packed, Precision},
};

/// Weights kept at most: more than any model here has. One that finds no place is packed each time.
const KEPT_MAX: usize = 1024;

/// Packed weights of one model.
#[derive(Default)]
pub struct Frozen(RwLock<Vec<Kept>>);

struct Kept {
    weight: FlexTensor,
    precision: Precision,
    packed: Arc<Packed>,
}

impl Kept {
    fn is(&self, weight: &FlexTensor, precision: Precision) -> bool {
        std::ptr::eq(floats(&self.weight), floats(weight))
            && dim(&self.weight, 1) == dim(weight, 1)
            && self.precision == precision
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Frozen>>> = const { RefCell::new(None) };
}

/// Calls `f`, whose layers keep their packed weights in `frozen`.
pub fn with_frozen<R>(frozen: &Arc<Frozen>, f: impl FnOnce() -> R) -> R {
    /// Puts the outer one back, also when `f` panics.
    struct Outer(Option<Arc<Frozen>>);
    impl Drop for Outer {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _outer = Outer(CURRENT.replace(Some(Arc::clone(frozen))));
    f()
}

/// `weight`, inputs × outputs, as the right operand of a product.
pub(crate) fn packed(weight: FlexTensor, precision: Precision) -> Arc<Packed> {
    let pack = |weight: &FlexTensor| {
        Arc::new(Packed::with(precision, floats(weight), dim(weight, 0), dim(weight, 1)))
    };
    let Some(frozen) = CURRENT.with_borrow(Clone::clone).filter(|_| weight.is_contiguous()) else {
        return pack(&contiguous(weight));
    };
    let found = |kept: &[Kept]| {
        kept.iter().find(|it| it.is(&weight, precision)).map(|it| Arc::clone(&it.packed))
    };
    if let Some(packed) = found(&frozen.0.read().unwrap_or_else(PoisonError::into_inner)) {
        return packed;
    }
    let mut kept = frozen.0.write().unwrap_or_else(PoisonError::into_inner);
    // Another thread may have been faster.
    if let Some(packed) = found(&kept) {
        return packed;
    }
    let packed = pack(&weight);
    if kept.len() < KEPT_MAX {
        kept.push(Kept { weight, precision, packed: Arc::clone(&packed) });
    }
    packed
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Frozen, packed, with_frozen};
    use crate::{
        flex::{floats_mut, tensor},
        matmul::Precision,
        testing::uniform,
    };

    #[test]
    fn a_weight_is_packed_once_inside_and_each_time_outside() {
        let weight = tensor(uniform(1, 64 * 48), [64, 48]);
        let frozen = Arc::new(Frozen::default());
        let of = |precision| packed(weight.clone(), precision);
        let (first, second, other) =
            with_frozen(&frozen, || (of(Precision::F32), of(Precision::F32), of(Precision::Bf16)));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &other), "another precision is another operand");
        let again = with_frozen(&frozen, || of(Precision::F32));
        assert!(Arc::ptr_eq(&first, &again), "from call to call");
        assert!(!Arc::ptr_eq(&of(Precision::F32), &of(Precision::F32)));
    }

    /// Whatever is done to the tensor a layer had, what it is given next is not taken for it.
    #[test]
    fn a_changed_weight_is_another() {
        let frozen = Arc::new(Frozen::default());
        let mut weight = tensor(uniform(1, 64 * 48), [64, 48]);
        let first = with_frozen(&frozen, || packed(weight.clone(), Precision::F32));
        floats_mut(&mut weight)[0] = 9.0;
        let second = with_frozen(&frozen, || packed(weight.clone(), Precision::F32));
        assert!(!Arc::ptr_eq(&first, &second));
        drop(weight);
        let fresh = tensor(uniform(2, 64 * 48), [64, 48]);
        let third = with_frozen(&frozen, || packed(fresh, Precision::F32));
        assert!(!Arc::ptr_eq(&first, &third) && !Arc::ptr_eq(&second, &third));
    }
}
