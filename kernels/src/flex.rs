//! Between burn's CPU tensors and slices, and what becomes of tensors that were used up.

use burn::tensor::TensorData;
use burn_flex::FlexTensor;

pub(crate) use crate::memory::unwritten;
use crate::memory::{self, RETIRED_LEN_MIN};

/// The elements, row-major. `tensor` must have passed [`contiguous`].
pub(crate) fn floats(tensor: &FlexTensor) -> &[f32] {
    let layout = tensor.layout();
    &tensor.storage::<f32>()[layout.start_offset()..][..layout.num_elements()]
}

/// The elements of a tensor of I32, row-major. `tensor` must have passed [`contiguous`].
pub(crate) fn integers(tensor: &FlexTensor) -> &[i32] {
    let layout = tensor.layout();
    &tensor.storage::<i32>()[layout.start_offset()..][..layout.num_elements()]
}

/// The tensor with its elements adjacent and row-major. f32 only: [`floats`] panics on another type, and no
/// function of this crate makes one.
pub(crate) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The elements for writing in place; copied first when the tensor shares them.
pub(crate) fn floats_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    if !tensor.is_contiguous() {
        *tensor = tensor.to_contiguous();
    }
    let (from, n) = (tensor.layout().start_offset(), tensor.layout().num_elements());
    &mut tensor.storage_mut::<f32>()[from..][..n]
}

/// A tensor that owns `elements`.
pub(crate) fn tensor<const D: usize>(elements: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(elements, shape))
}

/// Size of dimension `d`.
pub(crate) fn dim(tensor: &FlexTensor, d: usize) -> usize {
    tensor.layout().shape()[d]
}

/// Keeps the memory of a tensor of f32 for the next one of its size, unless somebody else still holds it.
pub(crate) fn retire(tensor: FlexTensor) {
    if tensor.layout().num_elements() < RETIRED_LEN_MIN || !tensor.is_unique() {
        return;
    }
    // A view on a part of its memory is not worth a copy.
    if tensor.layout().start_offset() != 0 || !tensor.is_contiguous() {
        return;
    }
    if let Ok(elements) = tensor.into_data().try_into_vec::<f32>() {
        memory::retire(elements);
    }
}

#[cfg(test)]
mod tests {
    use super::{RETIRED_LEN_MIN, floats, retire, tensor, unwritten};

    #[test]
    fn memory_of_a_used_up_tensor_is_used_again_and_a_shared_one_is_left_alone() {
        // A size that no other test has.
        let n = RETIRED_LEN_MIN + 12_345;
        let used = tensor(vec![7.0; n], [n]);
        let (address, second) = (floats(&used).as_ptr(), used.clone());
        retire(used);
        let fresh = unwritten(n);
        assert!(fresh.as_ptr() != address, "it is still held");
        assert!(floats(&second).iter().all(|x| x.to_bits() == 7.0_f32.to_bits()));
        retire(second);
        let again = unwritten(n);
        assert_eq!((again.as_ptr(), again.len()), (address, n));
        let fresh = unwritten(n);
        assert!(fresh.as_ptr() != address, "once");
    }
}
