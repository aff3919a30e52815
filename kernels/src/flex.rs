//! Between burn's CPU tensors and slices.

use burn::tensor::TensorData;
use burn_flex::FlexTensor;

/// The elements, row-major. `tensor` must have passed [`contiguous`].
pub(crate) fn floats(tensor: &FlexTensor) -> &[f32] {
    let layout = tensor.layout();
    &tensor.storage::<f32>()[layout.start_offset()..][..layout.num_elements()]
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
