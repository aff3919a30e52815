//! `embedding`: y\[r\] = table\[slot\[r\]\], one row of the table for each slot.
//!
//! Backward: dtable\[s\] = sum of dy\[r\] over the rows r with slot s, in the order of rows. The rows are first sorted by slot (a
//! counting sort, which keeps their order), so each thread adds whole segments of its own slots.
//!
//! Why not burn's: its scatter is serial on the CPU and adds with atomics, in the order threads arrive, on a GPU.
//!
//! bound by: bytes, 4 read and 4 written an element.

use rayon::prelude::*;

/// Elements a thread copies at a time, at least.
const CHUNK: usize = 1 << 14;
/// Slots a thread adds the segments of at a time.
const SLOTS: usize = 64;

/// The definition. Every slot is below the number of the table's rows.
pub fn reference(table: &[f32], width: usize, slots: &[i32]) -> Vec<f32> {
    slots.iter().flat_map(|slot| &table[*slot as usize * width..][..width]).copied().collect()
}

/// Writes one row for each slot. Every slot must be below the number of the table's rows.
pub fn fused(table: &[f32], width: usize, slots: &[i32], y: &mut [f32]) {
    if width == 0 {
        return;
    }
    let n_rows = CHUNK.div_ceil(width);
    y.par_chunks_mut(n_rows * width).zip(slots.par_chunks(n_rows)).for_each(|(y, slots)| {
        for (y, slot) in y.chunks_exact_mut(width).zip(slots) {
            y.copy_from_slice(&table[*slot as usize * width..][..width]);
        }
    });
}

/// Rows by slot: those of slot s are `order[first[s]..first[s + 1]]`, rising.
struct Segments {
    order: Vec<u32>,
    first: Vec<usize>,
}

impl Segments {
    fn of(slots: &[i32], n_slots: usize) -> Self {
        let mut first = vec![0; n_slots + 1];
        for slot in slots {
            first[*slot as usize + 1] += 1;
        }
        for slot in 0..n_slots {
            first[slot + 1] += first[slot];
        }
        let (mut next, mut order) = (first.clone(), vec![0; slots.len()]);
        for (row, slot) in (0..).zip(slots) {
            let at = &mut next[*slot as usize];
            order[*at] = row;
            *at += 1;
        }
        Self { order, first }
    }
}

/// The gradient of the table, `n_slots` × `width`.
#[must_use]
pub fn backward(slots: &[i32], n_slots: usize, width: usize, dy: &[f32]) -> Vec<f32> {
    let mut gradient = vec![0.0; n_slots * width];
    if width == 0 {
        return gradient;
    }
    let segments = Segments::of(slots, n_slots);
    gradient.par_chunks_mut(SLOTS * width).enumerate().for_each(|(chunk, gradient)| {
        for (i, sum) in gradient.chunks_exact_mut(width).enumerate() {
            let slot = chunk * SLOTS + i;
            for row in &segments.order[segments.first[slot]..segments.first[slot + 1]] {
                let dy = &dy[*row as usize * width..][..width];
                sum.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
            }
        }
    });
    gradient
}

#[cfg(feature = "burn")]
pub use op::embedding;

#[cfg(feature = "burn")]
pub(crate) mod op {
    use burn::{
        backend::{
            Autodiff, Backend, Dispatch, Flex, TensorMetadata as _, backend_extension,
            tensor::{FloatTensor, IntTensor},
        },
        tensor::{Int, Tensor},
    };
    use burn_autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    };

    use crate::flex::{contiguous, dim, floats, integers, tensor};

    /// The row of `table` (slots × width) for each of `slots`, which are I32 and below the number of rows.
    #[must_use]
    pub fn embedding(table: Tensor<2>, slots: Tensor<1, Int>) -> Tensor<2> {
        let (table, slots) = (table.into_dispatch(), slots.into_dispatch());
        Tensor::from_dispatch(<Dispatch as EmbeddingOps>::embedding_rows(table, slots))
    }

    /// The forward pass.
    #[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
    pub(crate) trait EmbeddingOps: Backend {
        /// See [`super::fused`].
        fn embedding_rows(table: FloatTensor<Self>, slots: IntTensor<Self>) -> FloatTensor<Self>;
    }

    /// The backward pass.
    pub(crate) trait EmbeddingBackward: Backend {
        /// See [`super::backward`].
        fn embedding_gradient(
            slots: IntTensor<Self>,
            n_slots: usize,
            dy: FloatTensor<Self>,
        ) -> FloatTensor<Self>;
    }

    impl EmbeddingOps for Flex {
        fn embedding_rows(table: FloatTensor<Self>, slots: IntTensor<Self>) -> FloatTensor<Self> {
            let (table, slots) = (contiguous(table), contiguous(slots));
            let (n_rows, width) = (dim(&slots, 0), dim(&table, 1));
            let mut y = vec![0.0; n_rows * width];
            super::fused(floats(&table), width, integers(&slots), &mut y);
            tensor(y, [n_rows, width])
        }
    }

    impl EmbeddingBackward for Flex {
        fn embedding_gradient(
            slots: IntTensor<Self>,
            n_slots: usize,
            dy: FloatTensor<Self>,
        ) -> FloatTensor<Self> {
            let (slots, dy) = (contiguous(slots), contiguous(dy));
            let width = dim(&dy, 1);
            let gradient = super::backward(integers(&slots), n_slots, width, floats(&dy));
            tensor(gradient, [n_slots, width])
        }
    }

    impl<B: EmbeddingOps + EmbeddingBackward, C: CheckpointStrategy> EmbeddingOps for Autodiff<B, C> {
        fn embedding_rows(table: FloatTensor<Self>, slots: IntTensor<Self>) -> FloatTensor<Self> {
            #[derive(Debug)]
            struct Embedding;

            impl<B: EmbeddingBackward> Backward<B, 1> for Embedding {
                type State = (IntTensor<B>, usize);

                fn backward(
                    self,
                    ops: Ops<Self::State, 1>,
                    grads: &mut Gradients,
                    _: &mut Checkpointer,
                ) {
                    let [parent] = ops.parents;
                    let dy = grads.consume::<B>(&ops.node);
                    if let Some(parent) = parent {
                        let (slots, n_slots) = ops.state;
                        grads.register::<B>(parent.id, B::embedding_gradient(slots, n_slots, dy));
                    }
                }
            }

            let n_slots = table.shape()[0];
            let (table, node) = table.into_parts();
            match Embedding.prepare::<C>([node]).compute_bound().stateful() {
                OpsKind::Tracked(prepared) => {
                    let y = B::embedding_rows(table, slots.clone());
                    prepared.finish((slots, n_slots), y)
                }
                OpsKind::UnTracked(prepared) => prepared.finish(B::embedding_rows(table, slots)),
            }
        }
    }
}

#[cfg(feature = "gpu")]
pub(crate) mod gpu;

#[cfg(test)]
mod tests {
    use super::{backward, fused, reference};
    use crate::testing::{assert_same_bits, on_any_threads, uniform};

    fn slots(n_rows: usize, n_slots: usize) -> Vec<i32> {
        (0..n_rows).map(|row| ((row * 7 + row / 3) % n_slots) as i32).collect()
    }

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        for (n_rows, n_slots, width) in
            [(0, 3, 2), (1, 1, 1), (255, 7, 3), (257, 300, 8), (2000, 65, 17), (3, 2, 0)]
        {
            let (table, slots) = (uniform(1, n_slots * width), slots(n_rows, n_slots));
            let mut y = vec![f32::NAN; n_rows * width];
            fused(&table, width, &slots, &mut y);
            assert_same_bits(&reference(&table, width, &slots), &y, (n_rows, n_slots, width));
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        let (n_rows, n_slots, width) = (20, 4, 3);
        let (table, slots) = (uniform(1, n_slots * width), slots(n_rows, n_slots));
        let c = uniform(2, n_rows * width);
        let objective = |table: &[f32]| -> f64 {
            let y = reference(table, width, &slots);
            y.iter().zip(&c).map(|(y, c)| f64::from(*y) * f64::from(*c)).sum()
        };
        for (at, found) in backward(&slots, n_slots, width, &c).iter().enumerate() {
            // Linear in the table: a step of one is exact but for rounding.
            let mut moved = table.clone();
            moved[at] += 1.0;
            let expected = objective(&moved) - objective(&table);
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{at}: {found}, not {expected}");
        }
    }

    #[test]
    fn gradients_add_rows_in_order_on_any_threads() {
        let (n_rows, n_slots, width) = (3000, 130, 5);
        let (slots, dy) = (slots(n_rows, n_slots), uniform(1, n_rows * width));
        let mut expected = vec![0.0; n_slots * width];
        for (slot, dy) in slots.iter().zip(dy.chunks(width)) {
            let sum = &mut expected[*slot as usize * width..][..width];
            sum.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
        }
        let found = on_any_threads(|| backward(&slots, n_slots, width, &dy));
        assert_same_bits(&expected, &found, "row order");
    }

    #[test]
    fn nan_stays_with_its_slot() {
        let mut y = [0.0; 3];
        fused(&[1.0, f32::NAN, 1e30], 1, &[2, 1, 0], &mut y);
        assert!(y[1].is_nan());
        assert_same_bits(&[1e30, 1.0], &[y[0], y[2]], "others");
        let found = backward(&[0, 1, 0], 2, 1, &[1.0, f32::NAN, 2.0]);
        assert_same_bits(&[3.0], &found[..1], "others");
    }

    #[cfg(feature = "burn")]
    #[test]
    fn burn_runs_it_and_its_composed_ops_agree() {
        use burn::tensor::{DType, Device, Int, Tensor, TensorData};

        use crate::testing::elements;

        let device = Device::flex().autodiff();
        let table = Tensor::<2>::from_data(TensorData::new(uniform(1, 15), [3, 5]), &device);
        let table = table.require_grad();
        let slots = TensorData::new(slots(40, 5), [40]);
        let slots = Tensor::<1, Int>::from_data(slots, (&device, DType::I32));
        let run = |y: Tensor<2>| {
            let gradients = (y.clone() * y.clone()).sum().backward();
            [elements(y.inner()), elements(table.grad(&gradients).expect("dtable"))].concat()
        };
        // Transposed: not contiguous.
        let ours = run(super::embedding(table.clone().transpose(), slots.clone()));
        let composed = run(table.clone().transpose().select(0, slots));
        for (ours, composed) in ours.iter().zip(&composed) {
            assert!((ours - composed).abs() < 1e-5, "{ours}, composed {composed}");
        }
    }
}
