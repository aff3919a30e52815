//! On the GPU a unit counts one row with an integer atomic: the order in which units arrive does not show in a count.

use burn::backend::{
    DType,
    tensor::{FloatTensor, IntTensor},
};
use burn_cubecl::{CubeBackend, ops::numeric};
use cubecl::prelude::*;

use super::op::HistogramOps;
use crate::gpu::{arg, contiguous, grid, len};

impl HistogramOps for CubeBackend {
    fn histogram(
        scores: FloatTensor<Self>,
        labels: FloatTensor<Self>,
        n_bins: usize,
    ) -> IntTensor<Self> {
        let (scores, labels) = (contiguous(scores), contiguous(labels));
        let (client, device) = (scores.client.clone(), scores.device.clone());
        let counts = numeric::zeros_client(client, device, [n_bins, 2].into(), DType::I32);
        if 0 < len(&scores) && 0 < n_bins {
            let (cubes, units) = grid(&counts.client, len(&scores));
            let (scores, labels) = (arg(&scores), arg(&labels));
            count::launch(&counts.client, cubes, units, scores, labels, arg(&counts), n_bins);
        }
        counts
    }
}

/// See [`super::place`].
#[cube(launch)]
fn count(scores: &[f32], labels: &[f32], counts: &mut [Atomic<i32>], n_bins: usize) {
    if ABSOLUTE_POS < scores.len() {
        let score = scores[ABSOLUTE_POS];
        // Exactly 1, exactly 0 of either sign, or no label.
        let label = u32::reinterpret(labels[ABSOLUTE_POS]);
        let is_positive = label == 0x3f80_0000u32;
        let is_label = is_positive || label << 1 == 0u32;
        if 0.0f32 <= score && is_label && score <= 1.0f32 {
            let mut bin = (score * n_bins as f32) as usize;
            if n_bins <= bin {
                bin = n_bins - 1;
            }
            counts[bin * 2 + is_positive as usize].fetch_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram;
    use crate::testing::{
        assert_same_bits,
        gpu::{on_cpu_and_gpu, tensor},
        uniform,
    };

    #[test]
    fn counts_are_the_cpus() {
        for (n, n_bins) in [(0, 4), (1, 1), (255, 7), (257, 100), (5, 0)] {
            let mut scores: Vec<f32> = uniform(1, n).iter().map(|x| x * 0.6 + 0.5).collect();
            for (score, special) in scores.iter_mut().zip([f32::NAN, f32::INFINITY, 1.0, 0.0]) {
                *score = special;
            }
            let labels: Vec<f32> = (0..n).map(|i| (i % 3) as f32).collect();
            let found = on_cpu_and_gpu(|device| {
                let (scores, labels) =
                    (tensor(scores.clone(), [n], device), tensor(labels.clone(), [n], device));
                let counts = histogram(scores, labels, n_bins);
                counts.try_into_data().expect("the device answers").iter::<f32>().collect()
            });
            let Some((cpu, gpu)) = found else { return };
            assert_same_bits(&cpu, &gpu, (n, n_bins));
        }
    }
}
