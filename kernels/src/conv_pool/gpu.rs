//! On the GPU the two operations one after the other: [`crate::conv2d`] with ReLU, then [`crate::max_pool`].

use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;

use super::op::{ConvPoolBackward, ConvPoolOps, Saved};
use crate::{
    activation::Activation,
    conv2d::{
        self, Conv,
        op::{Conv2dBackward, Conv2dOps},
    },
    linear::gpu::chained,
    max_pool::op::MaxPoolBackward,
    window::Window,
};

impl ConvPoolOps for CubeBackend {
    fn conv_pool(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        conv: Conv,
        pool: usize,
    ) -> FloatTensor<Self> {
        Self::conv_pool_kept(x, w, b, conv, pool).0
    }
}

impl ConvPoolBackward for CubeBackend {
    type Winners = <Self as MaxPoolBackward>::Winners;

    fn conv_pool_kept(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        conv: Conv,
        pool: usize,
    ) -> (FloatTensor<Self>, Self::Winners) {
        let z = Self::conv2d_forward(x, w, b, conv, true);
        Self::max_pool_kept(z, Window::tiles(pool))
    }

    fn conv_pool_backward(
        saved: Saved<Self>,
        dy: FloatTensor<Self>,
        wants_dx: bool,
    ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>) {
        let Saved { conv, pool, x, w, y, winners } = saved;
        let dz =
            Self::max_pool_backward(winners, Window::tiles(pool), chained(Activation::Relu, y, dy));
        // A winner is cut where y is, so dz is what goes into the convolution.
        Self::conv2d_backward(conv2d::op::Saved { conv, x, w, y: None }, dz, wants_dx)
    }
}

#[cfg(test)]
mod tests {
    use super::super::conv_pool;
    use crate::{
        conv2d::Conv,
        testing::gpu::{assert_near, leaf, on_cpu_and_gpu, with_gradients},
        window::{Image, Window},
    };

    #[test]
    fn agrees_with_the_cpu() {
        let input = Image { height: 7, width: 7, n_channels: 2 };
        let window = Window { size: 3, stride: 1, padding: 1 };
        let conv = Conv { input, n_outputs: 5, window };
        for (n, pool) in [(0, 2), (1, 1), (3, 2), (2, 3)] {
            let found = on_cpu_and_gpu(|device| {
                let (x, b) = (leaf(1, n * input.len(), device), leaf(3, 5, device));
                let w = leaf(2, conv.n_taps() * 5, device);
                let xs = x.clone().reshape([n, 7, 7, 2]);
                let y = conv_pool(xs, w.clone().reshape([3, 3, 2, 5]), b.clone(), conv, pool);
                with_gradients(y, &[x, w, b])
            });
            let Some((cpu, gpu)) = found else { return };
            assert_near(&cpu, &gpu, 2e-6, (n, pool));
        }
    }
}
