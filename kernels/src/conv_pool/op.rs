//! The glue that makes burn run [`super::fused`] and [`super::backward`].

use burn::{
    backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
    tensor::Tensor,
};
use burn_autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};

use super::{Conv, Kept, output};
use crate::flex::{contiguous, dim, floats, tensor};

/// The convolution `conv` of `x`, rows × height × width × channels, cut at zero, and of that the largest numbers of each
/// `pool` × `pool` pixels. `w` is size × size × inputs × outputs, `b` has one number an output; `pool` is at most
/// [`crate::max_pool::SIZE_MAX`].
#[must_use]
pub fn conv_pool(x: Tensor<4>, w: Tensor<4>, b: Tensor<1>, conv: Conv, pool: usize) -> Tensor<4> {
    let (x, w, b) = (x.into_dispatch(), w.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(<Dispatch as ConvPoolOps>::conv_pool(x, w, b, conv, pool))
}

/// The forward pass.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait ConvPoolOps: Backend {
    /// See [`super::fused`].
    fn conv_pool(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        conv: Conv,
        pool: usize,
    ) -> FloatTensor<Self>;
}

/// What training needs beside it.
pub(crate) trait ConvPoolBackward: Backend {
    /// Which pixel of its window each number of y comes from.
    type Winners: Clone + std::fmt::Debug + Send + 'static;

    /// See [`super::fused`].
    fn conv_pool_kept(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        conv: Conv,
        pool: usize,
    ) -> (FloatTensor<Self>, Self::Winners);

    /// See [`super::backward`]: the gradients of x (if wanted), w and b.
    fn conv_pool_backward(
        saved: Saved<Self>,
        dy: FloatTensor<Self>,
        wants_dx: bool,
    ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>);
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
pub(crate) struct Saved<B: ConvPoolBackward> {
    pub(crate) conv: Conv,
    pub(crate) pool: usize,
    pub(crate) x: FloatTensor<B>,
    pub(crate) w: FloatTensor<B>,
    pub(crate) y: FloatTensor<B>,
    pub(crate) winners: B::Winners,
}

impl ConvPoolOps for Flex {
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

impl ConvPoolBackward for Flex {
    type Winners = std::sync::Arc<Vec<u8>>;

    fn conv_pool_kept(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        conv: Conv,
        pool: usize,
    ) -> (FloatTensor<Self>, Self::Winners) {
        let (x, w, b) = (contiguous(x), contiguous(w), contiguous(b));
        let (n, output) = (dim(&x, 0), output(&conv, pool));
        let mut y = vec![0.0; n * output.len()];
        let mut winners = vec![0; y.len()];
        super::fused(&conv, pool, floats(&x), floats(&w), floats(&b), &mut y, &mut winners);
        (tensor(y, [n, output.height, output.width, output.n_channels]), winners.into())
    }

    fn conv_pool_backward(
        saved: Saved<Self>,
        dy: FloatTensor<Self>,
        wants_dx: bool,
    ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>) {
        let Saved { conv, pool, x, w, y, winners } = saved;
        let (x, w, y, dy) = (contiguous(x), contiguous(w), contiguous(y), contiguous(dy));
        let kept = Kept { y: floats(&y), winners: &winners };
        let found =
            super::backward(&conv, pool, floats(&x), floats(&w), kept, floats(&dy), wants_dx);
        let (n, input, size) = (dim(&x, 0), conv.input, conv.window.size);
        (
            found.dx.map(|dx| tensor(dx, [n, input.height, input.width, input.n_channels])),
            tensor(found.dw, [size, size, input.n_channels, conv.n_outputs]),
            tensor(found.db, [conv.n_outputs]),
        )
    }
}

impl<B: ConvPoolOps + ConvPoolBackward, C: CheckpointStrategy> ConvPoolOps for Autodiff<B, C> {
    fn conv_pool(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        conv: Conv,
        pool: usize,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ConvPool;

        impl<B: ConvPoolBackward> Backward<B, 3> for ConvPool {
            type State = Saved<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let [x, w, b] = ops.parents;
                let dy = grads.consume::<B>(&ops.node);
                let (dx, dw, db) = B::conv_pool_backward(ops.state, dy, x.is_some());
                for (parent, gradient) in [(x, dx), (w, Some(dw)), (b, Some(db))] {
                    if let (Some(parent), Some(gradient)) = (parent, gradient) {
                        grads.register::<B>(parent.id, gradient);
                    }
                }
            }
        }

        let ((x, x_node), (w, w_node), (b, b_node)) =
            (x.into_parts(), w.into_parts(), b.into_parts());
        match ConvPool.prepare::<C>([x_node, w_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (y, winners) = B::conv_pool_kept(x.clone(), w.clone(), b, conv, pool);
                prepared.finish(Saved { conv, pool, x, w, y: y.clone(), winners }, y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::conv_pool(x, w, b, conv, pool)),
        }
    }
}
