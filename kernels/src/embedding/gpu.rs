//! On the GPU an embedding is a [`crate::table_input`] of one table and no numbers, forward and backward.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn_cubecl::{CubeBackend, ops::reshape};

use super::op::{EmbeddingBackward, EmbeddingOps};
use crate::{
    gpu::{contiguous, dim, empty, len},
    table_input::{
        Table,
        op::{TableInputBackward, TableInputOps},
    },
};

impl EmbeddingOps for CubeBackend {
    fn embedding_rows(table: FloatTensor<Self>, slots: IntTensor<Self>) -> FloatTensor<Self> {
        let layout = Table { n_slots: dim(&table, 0), width: dim(&table, 1) };
        let (n_rows, n_elements) = (len(&slots), len(&table));
        let none = empty(&table, [n_rows, 0]);
        let slots = reshape(contiguous(slots), [n_rows, 1].into());
        let table = reshape(contiguous(table), [n_elements].into());
        Self::table_input(none, slots, table, vec![layout])
    }
}

impl EmbeddingBackward for CubeBackend {
    fn embedding_gradient(
        slots: IntTensor<Self>,
        n_slots: usize,
        dy: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (n_rows, width) = (dim(&dy, 0), dim(&dy, 1));
        let slots = reshape(contiguous(slots), [n_rows, 1].into());
        let found = Self::table_input_backward(slots, &[Table { n_slots, width }], dy);
        reshape(found, [n_slots, width].into())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Tensor, TensorData};

    use super::super::embedding;
    use crate::testing::{
        assert_same_bits,
        gpu::{leaf, on_cpu_and_gpu, with_gradients},
    };

    #[test]
    fn rows_and_gradients_are_the_cpus_bit_for_bit() {
        for (n_rows, n_slots, width) in [(0, 3, 2), (1, 1, 1), (255, 300, 3), (257, 5, 4)] {
            let slots: Vec<i32> = (0..n_rows).map(|row| (row * 7 + row / 3) % n_slots).collect();
            let found = on_cpu_and_gpu(|device| {
                let table = leaf(1, (n_slots * width) as usize, device);
                let slots = TensorData::new(slots.clone(), [slots.len()]);
                let slots = Tensor::from_data(slots, (&table.device(), DType::I32));
                let y = embedding(table.clone().reshape([n_slots, width]), slots);
                with_gradients(y, &[table])
            });
            let Some((cpu, gpu)) = found else { return };
            assert_same_bits(&cpu, &gpu, (n_rows, n_slots, width));
        }
    }
}
