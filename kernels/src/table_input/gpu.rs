//! On the GPU a unit finds one element of the output, or adds up one row of one table's gradient.
//!
//! The gradient without atomics and without a sort: of all rows with a slot the first is its leader; the leader's unit
//! adds theirs from the top, as the CPU does, and gets the CPU's bits. A row looks back for an earlier one with its slot,
//! which it finds at once where slots are few; where they are many, a batch has few rows for each. Work is at most
//! rows² · width and never depends on the length of the tables but for the zeros.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{
    Table,
    op::{TableInputBackward, TableInputOps},
};
use crate::gpu::{arg, contiguous, dim, empty, grid, len, zeros};

impl TableInputOps for CubeBackend {
    fn table_input(
        numeric: FloatTensor<Self>,
        slots: IntTensor<Self>,
        tables: FloatTensor<Self>,
        layout: Vec<Table>,
    ) -> FloatTensor<Self> {
        let (numeric, tables, slots) = (contiguous(numeric), contiguous(tables), contiguous(slots));
        let (n_rows, n_numeric) = (dim(&numeric, 0), dim(&numeric, 1));
        let columns = columns(&layout);
        let y = empty(&numeric, [n_rows, n_numeric + columns.len() / COLUMN]);
        if len(&y) == 0 || columns.is_empty() {
            return if columns.is_empty() { numeric } else { y };
        }
        // A kernel's argument is never empty.
        let numeric = if n_numeric == 0 { tables.clone() } else { numeric };
        let (cubes, units) = grid(&y.client, len(&y));
        look_up::launch(
            &y.client,
            cubes,
            units,
            arg(&numeric),
            arg(&slots),
            arg(&tables),
            upload(&y, &columns),
            arg(&y),
            n_numeric,
            columns.len() / COLUMN,
            layout.len(),
        );
        y
    }
}

impl TableInputBackward for CubeBackend {
    fn table_input_backward(
        slots: IntTensor<Self>,
        layout: &[Table],
        d_out: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (slots, d_out) = (contiguous(slots), contiguous(d_out));
        let (n_rows, width) = (dim(&d_out, 0), dim(&d_out, 1));
        let columns = columns(layout);
        let n_columns = columns.len() / COLUMN;
        let y = zeros(&d_out, [layout.iter().map(Table::len).sum()]);
        if n_rows * n_columns == 0 || len(&y) == 0 {
            return y;
        }
        let (cubes, units) = grid(&y.client, n_rows * n_columns);
        add_rows::launch(
            &y.client,
            cubes,
            units,
            arg(&d_out),
            arg(&slots),
            upload(&y, &columns),
            arg(&y),
            n_rows,
            width - n_columns,
            n_columns,
            layout.len(),
        );
        y
    }
}

/// Numbers that describe a column: its table, where in all tables its slot 0 lies, and how far apart slots are.
const COLUMN: usize = 3;

fn columns(layout: &[Table]) -> Vec<u32> {
    let mut columns = Vec::new();
    let mut first = 0;
    for (i, table) in layout.iter().enumerate() {
        for column in 0..table.width {
            columns.extend([i as u32, (first + column) as u32, table.width as u32]);
        }
        first += table.len();
    }
    columns
}

#[expect(unsafe_code, reason = "cubecl takes a buffer's length on trust")]
fn upload(like: &CubeTensor, numbers: &[u32]) -> BufferArg {
    let handle = like.client.create_from_slice(u32::as_bytes(numbers));
    // SAFETY: the buffer was just made from as many numbers.
    unsafe { BufferArg::from_raw_parts(handle, numbers.len()) }
}

/// A unit for each element of `y`: `n_numeric` numbers and `n_columns` columns a row.
#[cube(launch)]
fn look_up(
    numeric: &[f32],
    slots: &[i32],
    tables: &[f32],
    columns: &[u32],
    y: &mut [f32],
    n_numeric: usize,
    n_columns: usize,
    n_tables: usize,
) {
    if ABSOLUTE_POS < y.len() {
        let row = ABSOLUTE_POS / (n_numeric + n_columns);
        let column = ABSOLUTE_POS % (n_numeric + n_columns);
        if column < n_numeric {
            y[ABSOLUTE_POS] = numeric[row * n_numeric + column];
        } else {
            let at = (column - n_numeric) * COLUMN;
            let slot = slots[row * n_tables + columns[at] as usize] as usize;
            y[ABSOLUTE_POS] = tables[columns[at + 1] as usize + slot * columns[at + 2] as usize];
        }
    }
}

/// A unit for each row and column of an embedding; the first row with a slot adds for all. `y` holds zeros.
#[cube(launch)]
fn add_rows(
    d_out: &[f32],
    slots: &[i32],
    columns: &[u32],
    y: &mut [f32],
    n_rows: usize,
    n_numeric: usize,
    n_columns: usize,
    n_tables: usize,
) {
    if ABSOLUTE_POS < n_rows * n_columns {
        let row = ABSOLUTE_POS / n_columns;
        let column = ABSOLUTE_POS % n_columns;
        let table = columns[column * COLUMN] as usize;
        let slot = slots[row * n_tables + table];

        let mut earlier = row;
        let mut leads = true;
        while 0 < earlier && leads {
            earlier -= 1;
            leads = slots[earlier * n_tables + table] != slot;
        }
        if leads {
            let mut total = 0.0f32;
            for other in row..n_rows {
                if slots[other * n_tables + table] == slot {
                    total += d_out[other * (n_numeric + n_columns) + n_numeric + column];
                }
            }
            let first = columns[column * COLUMN + 1] as usize;
            y[first + slot as usize * columns[column * COLUMN + 2] as usize] = total;
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Tensor, TensorData};

    use super::super::{Table, table_input};
    use crate::testing::{
        assert_same_bits,
        gpu::{elements, leaf, on_cpu_and_gpu, tensor, with_gradients},
        uniform,
    };

    const LAYOUT: [Table; 3] = [
        Table { n_slots: 500, width: 3 },
        Table { n_slots: 2, width: 1 },
        Table { n_slots: 7, width: 4 },
    ];
    const N_TABLES: usize = 1500 + 2 + 28;

    /// Rows are looked up, and their gradients added in the CPU's order: nothing may differ.
    #[test]
    fn rows_and_gradients_are_the_cpus_bit_for_bit() {
        for (n_rows, n_numeric) in [(0, 2), (1, 0), (1, 1), (255, 3), (257, 2)] {
            let slots: Vec<i32> = (0..n_rows)
                .flat_map(|row| LAYOUT.map(|it| ((row * 7 + row / 3) % it.n_slots) as i32))
                .collect();
            let found = on_cpu_and_gpu(|device| {
                let tables = leaf(2, N_TABLES, device);
                let device = &tables.device();
                let numeric = tensor(uniform(1, n_rows * n_numeric), [n_rows, n_numeric], device);
                let slots = TensorData::new(slots.clone(), [n_rows, 3]);
                let slots = Tensor::from_data(slots, (device, DType::I32));
                with_gradients(table_input(numeric, slots, tables.clone(), &LAYOUT), &[tables])
            });
            let Some((cpu, gpu)) = found else { return };
            assert_same_bits(&cpu, &gpu, (n_rows, n_numeric));
        }
    }

    #[test]
    fn numbers_alone_pass_through() {
        let found = on_cpu_and_gpu(|device| {
            let numeric = tensor(uniform(1, 14), [2, 7], device).swap_dims(0, 1);
            let slots = TensorData::new(Vec::<i32>::new(), [7, 0]);
            let slots = Tensor::from_data(slots, (device, DType::I32));
            elements(table_input(numeric, slots, tensor(Vec::new(), [0], device), &[]))
        });
        let Some((cpu, gpu)) = found else { return };
        assert_same_bits(&cpu, &gpu, "no tables");
    }
}
