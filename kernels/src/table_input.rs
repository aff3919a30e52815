//! `table_input`: what a model for tables reads: a row's numbers, then one embedding for each of its categories.
//! out\[r\] = numeric\[r\] ‖ table₀\[slot\[r, 0\]\] ‖ table₁\[slot\[r, 1\]\] ‖ …
//!
//! The tables lie one after the other in one slice; [`Table`] says how long and wide each is.
//!
//! Why not burn's composed ops: a select for each category, a concatenation, and for the gradient a scatter that is
//! serial or adds in the order threads arrive. Here each table's gradient is added up in row order.
//!
//! bound by: bytes, 4 read and 4 written an element.

use rayon::prelude::*;

/// Size of one embedding table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Rows: slots of the category.
    pub n_slots: usize,
    /// Numbers for each slot.
    pub width: usize,
}

impl Table {
    /// Numbers in the table.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.n_slots * self.width
    }

    /// Whether the table holds nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Rows a thread fills at a time.
const ROWS: usize = 256;

/// The definition.
pub fn reference(
    numeric: &[f32],
    slots: &[i32],
    tables: &[f32],
    layout: &[Table],
    n_rows: usize,
) -> Vec<f32> {
    let n_numeric = numeric.len() / n_rows;
    let mut out = Vec::new();
    for row in 0..n_rows {
        out.extend_from_slice(&numeric[row * n_numeric..][..n_numeric]);
        let mut first = 0;
        for (table, slot) in layout.iter().zip(&slots[row * layout.len()..]) {
            out.extend_from_slice(&tables[first + *slot as usize * table.width..][..table.width]);
            first += table.len();
        }
    }
    out
}

/// Fills `out`, `n_rows` rows. Every slot must be below its table's `n_slots`.
pub fn fused(
    numeric: &[f32],
    slots: &[i32],
    tables: &[f32],
    layout: &[Table],
    n_rows: usize,
    out: &mut [f32],
) {
    if n_rows == 0 || out.is_empty() {
        return;
    }
    let (n_numeric, width) = (numeric.len() / n_rows, out.len() / n_rows);
    out.par_chunks_mut(ROWS * width).enumerate().for_each(|(chunk, out)| {
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let row = chunk * ROWS + i;
            let (numbers, mut rest) = out.split_at_mut(n_numeric);
            numbers.copy_from_slice(&numeric[row * n_numeric..][..n_numeric]);
            let mut tables = tables;
            for (table, slot) in layout.iter().zip(&slots[row * layout.len()..]) {
                let (embedding, next) = rest.split_at_mut(table.width);
                let (own, others) = tables.split_at(table.len());
                embedding.copy_from_slice(&own[*slot as usize * table.width..][..table.width]);
                (rest, tables) = (next, others);
            }
        }
    });
}

/// The gradient of the tables: rows are added in their order. `out` holds zeros.
pub fn backward(
    slots: &[i32],
    layout: &[Table],
    n_numeric: usize,
    n_rows: usize,
    d_out: &[f32],
    out: &mut [f32],
) {
    let width = n_numeric + layout.iter().map(|table| table.width).sum::<usize>();
    let mut parts = Vec::with_capacity(layout.len());
    let (mut rest, mut column) = (out, n_numeric);
    for (i, table) in layout.iter().enumerate() {
        let (own, others) = rest.split_at_mut(table.len());
        parts.push((i, table, column, own));
        rest = others;
        column += table.width;
    }
    parts.into_par_iter().for_each(|(i, table, column, own)| {
        for row in 0..n_rows {
            let slot = slots[row * layout.len() + i] as usize;
            let from = &d_out[row * width + column..][..table.width];
            for (sum, x) in own[slot * table.width..][..table.width].iter_mut().zip(from) {
                *sum += x;
            }
        }
    });
}

#[cfg(feature = "burn")]
pub use op::table_input;

#[cfg(feature = "burn")]
pub(crate) mod op {
    use burn::{
        backend::{
            Autodiff, Backend, Dispatch, Flex, backend_extension,
            tensor::{FloatTensor, IntTensor},
        },
        tensor::{Int, Tensor},
    };
    use burn_autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    };

    use super::Table;
    use crate::flex::{contiguous, dim, floats, tensor};

    /// Numbers and embeddings side by side. `slots` is I32, rows × tables; each must be below its table's `n_slots`.
    /// `tables` holds all tables one after the other. No gradient flows to `numeric`.
    #[must_use]
    pub fn table_input(
        numeric: Tensor<2>,
        slots: Tensor<2, Int>,
        tables: Tensor<1>,
        layout: &[Table],
    ) -> Tensor<2> {
        Tensor::from_dispatch(<Dispatch as TableInputOps>::table_input(
            numeric.into_dispatch(),
            slots.into_dispatch(),
            tables.into_dispatch(),
            layout.to_vec(),
        ))
    }

    /// The forward pass.
    #[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
    pub(crate) trait TableInputOps: Backend {
        /// See [`super::fused`].
        fn table_input(
            numeric: FloatTensor<Self>,
            slots: IntTensor<Self>,
            tables: FloatTensor<Self>,
            layout: Vec<Table>,
        ) -> FloatTensor<Self>;
    }

    /// The backward pass.
    pub(crate) trait TableInputBackward: Backend {
        /// See [`super::backward`].
        fn table_input_backward(
            slots: IntTensor<Self>,
            layout: &[Table],
            d_out: FloatTensor<Self>,
        ) -> FloatTensor<Self>;
    }

    impl TableInputOps for Flex {
        fn table_input(
            numeric: FloatTensor<Self>,
            slots: IntTensor<Self>,
            tables: FloatTensor<Self>,
            layout: Vec<Table>,
        ) -> FloatTensor<Self> {
            let (numeric, tables) = (contiguous(numeric), contiguous(tables));
            let slots = contiguous(slots);
            let n_rows = dim(&numeric, 0);
            let width = dim(&numeric, 1) + layout.iter().map(|table| table.width).sum::<usize>();
            let mut out = vec![0.0; n_rows * width];
            let slots = &slots.storage::<i32>()[slots.layout().start_offset()..];
            super::fused(floats(&numeric), slots, floats(&tables), &layout, n_rows, &mut out);
            tensor(out, [n_rows, width])
        }
    }

    impl TableInputBackward for Flex {
        fn table_input_backward(
            slots: IntTensor<Self>,
            layout: &[Table],
            d_out: FloatTensor<Self>,
        ) -> FloatTensor<Self> {
            let (slots, d_out) = (contiguous(slots), contiguous(d_out));
            let (n_rows, width) = (dim(&d_out, 0), dim(&d_out, 1));
            let n_numeric = width - layout.iter().map(|table| table.width).sum::<usize>();
            let n_elements = layout.iter().map(Table::len).sum();
            let mut out = vec![0.0; n_elements];
            let slots = &slots.storage::<i32>()[slots.layout().start_offset()..];
            super::backward(slots, layout, n_numeric, n_rows, floats(&d_out), &mut out);
            tensor(out, [n_elements])
        }
    }

    impl<B: TableInputOps + TableInputBackward, C: CheckpointStrategy> TableInputOps
        for Autodiff<B, C>
    {
        fn table_input(
            numeric: FloatTensor<Self>,
            slots: IntTensor<Self>,
            tables: FloatTensor<Self>,
            layout: Vec<Table>,
        ) -> FloatTensor<Self> {
            #[derive(Debug)]
            struct TableInput;

            impl<B: TableInputBackward> Backward<B, 1> for TableInput {
                type State = (IntTensor<B>, Vec<Table>);

                fn backward(
                    self,
                    ops: Ops<Self::State, 1>,
                    grads: &mut Gradients,
                    _: &mut Checkpointer,
                ) {
                    let [parent] = ops.parents;
                    let d_out = grads.consume::<B>(&ops.node);
                    if let Some(parent) = parent {
                        let (slots, layout) = ops.state;
                        let gradient = B::table_input_backward(slots, &layout, d_out);
                        grads.register::<B>(parent.id, gradient);
                    }
                }
            }

            let numeric = numeric.into_primitive();
            let (tables, node) = tables.into_parts();
            match TableInput.prepare::<C>([node]).compute_bound().stateful() {
                OpsKind::Tracked(prepared) => {
                    let out = B::table_input(numeric, slots.clone(), tables, layout.clone());
                    prepared.finish((slots, layout), out)
                }
                OpsKind::UnTracked(prepared) => {
                    prepared.finish(B::table_input(numeric, slots, tables, layout))
                }
            }
        }
    }
}

#[cfg(feature = "gpu")]
pub(crate) mod gpu;

#[cfg(test)]
mod tests {
    use super::{Table, backward, fused, reference};
    use crate::testing::{assert_same_bits, on_any_threads, uniform};

    const LAYOUT: [Table; 3] = [
        Table { n_slots: 5, width: 3 },
        Table { n_slots: 2, width: 1 },
        Table { n_slots: 7, width: 4 },
    ];
    const N_TABLES: usize = 15 + 2 + 28;

    fn slots(n_rows: usize) -> Vec<i32> {
        let of_row = |row: usize| LAYOUT.map(|table| ((row * 7 + row / 3) % table.n_slots) as i32);
        (0..n_rows).flat_map(of_row).collect()
    }

    #[test]
    fn matches_reference_bit_for_bit_at_awkward_sizes() {
        let tables = uniform(1, N_TABLES);
        for (n_rows, n_numeric) in [(1, 0), (1, 1), (255, 3), (257, 2), (1000, 10)] {
            let numeric = uniform(2, n_rows * n_numeric);
            let slots = slots(n_rows);
            let expected = reference(&numeric, &slots, &tables, &LAYOUT, n_rows);
            let mut out = vec![f32::NAN; expected.len()];
            fused(&numeric, &slots, &tables, &LAYOUT, n_rows, &mut out);
            assert_same_bits(&expected, &out, (n_rows, n_numeric));
        }
        let mut out = vec![f32::NAN; 6];
        fused(&[1.0; 6], &[], &[], &[], 3, &mut out);
        assert_same_bits(&[1.0; 6], &out, "numbers only");
    }

    #[test]
    fn gradients_match_finite_differences() {
        let (n_rows, n_numeric) = (40, 2);
        let (numeric, tables) = (uniform(1, n_rows * n_numeric), uniform(2, N_TABLES));
        let slots = slots(n_rows);
        let c = uniform(3, n_rows * (n_numeric + 8));
        let objective = |tables: &[f32]| -> f64 {
            let out = reference(&numeric, &slots, tables, &LAYOUT, n_rows);
            out.iter().zip(&c).map(|(x, c)| f64::from(*x) * f64::from(*c)).sum()
        };
        let mut gradient = vec![0.0; N_TABLES];
        backward(&slots, &LAYOUT, n_numeric, n_rows, &c, &mut gradient);
        for (at, found) in gradient.iter().enumerate() {
            // Linear in the tables: a step of one is exact but for rounding.
            let mut moved = tables.clone();
            moved[at] += 1.0;
            let step = f64::from(moved[at]) - f64::from(tables[at]);
            let expected = (objective(&moved) - objective(&tables)) / step;
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{at}: {found}, not {expected}");
        }
    }

    #[test]
    fn gradients_add_rows_in_order_on_any_threads() {
        let n_rows = 3000;
        let slots = slots(n_rows);
        let d_out = uniform(1, n_rows * 8);
        let run = || {
            let mut out = vec![0.0; N_TABLES];
            backward(&slots, &LAYOUT, 0, n_rows, &d_out, &mut out);
            out
        };
        let mut expected = [0.0; N_TABLES];
        for row in 0..n_rows {
            let slot = slots[row * 3 + 1] as usize;
            expected[15 + slot] += d_out[row * 8 + 3];
        }
        assert_same_bits(&expected[15..17], &on_any_threads(run)[15..17], "second table");
    }
}
