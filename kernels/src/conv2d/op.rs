//! The glue that makes burn run [`super::fused`] and [`super::backward()`].

use burn::{
    backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
    tensor::Tensor,
};
use burn_autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};

use super::Conv;
use crate::flex::{contiguous, dim, floats, tensor};

/// The convolution `conv` of `x`, rows × height × width × channels, cut at zero with `relu`. `w` is size × size × inputs ×
/// outputs, `b` has one number an output.
#[must_use]
pub fn conv2d(x: Tensor<4>, w: Tensor<4>, b: Tensor<1>, conv: Conv, relu: bool) -> Tensor<4> {
    let (x, w, b) = (x.into_dispatch(), w.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Conv2dOps>::conv2d_forward(x, w, b, conv, relu))
}

/// The forward pass.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait Conv2dOps: Backend {
    /// See [`super::fused`].
    fn conv2d_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        conv: Conv,
        relu: bool,
    ) -> FloatTensor<Self>;
}

/// The backward pass.
pub(crate) trait Conv2dBackward: Backend {
    /// See [`super::backward()`]: the gradients of x (if wanted), w and b.
    fn conv2d_backward(
        saved: Saved<Self>,
        dy: FloatTensor<Self>,
        wants_dx: bool,
    ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>);
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
pub(crate) struct Saved<B: Backend> {
    pub(crate) conv: Conv,
    pub(crate) x: FloatTensor<B>,
    pub(crate) w: FloatTensor<B>,
    /// With ReLU only.
    pub(crate) y: Option<FloatTensor<B>>,
}

impl Conv2dOps for Flex {
    fn conv2d_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        conv: Conv,
        relu: bool,
    ) -> FloatTensor<Self> {
        let (x, w, b) = (contiguous(x), contiguous(w), contiguous(b));
        let (n, output) = (dim(&x, 0), conv.output());
        let mut y = vec![0.0; n * output.len()];
        super::fused(&conv, floats(&x), floats(&w), floats(&b), relu, &mut y);
        tensor(y, [n, output.height, output.width, output.n_channels])
    }
}

impl Conv2dBackward for Flex {
    fn conv2d_backward(
        saved: Saved<Self>,
        dy: FloatTensor<Self>,
        wants_dx: bool,
    ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>) {
        let Saved { conv, x, w, y } = saved;
        let (x, w, y, dy) = (contiguous(x), contiguous(w), y.map(contiguous), contiguous(dy));
        let y = y.as_ref().map(floats);
        let found = super::backward(&conv, floats(&x), floats(&w), y, floats(&dy), wants_dx);
        let (n, input, size) = (dim(&x, 0), conv.input, conv.window.size);
        (
            found.dx.map(|dx| tensor(dx, [n, input.height, input.width, input.n_channels])),
            tensor(found.dw, [size, size, input.n_channels, conv.n_outputs]),
            tensor(found.db, [conv.n_outputs]),
        )
    }
}

impl<B: Conv2dOps + Conv2dBackward, C: CheckpointStrategy> Conv2dOps for Autodiff<B, C> {
    fn conv2d_forward(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        b: FloatTensor<Self>,
        conv: Conv,
        relu: bool,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Conv2d;

        impl<B: Conv2dBackward> Backward<B, 3> for Conv2d {
            type State = Saved<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let [x, w, b] = ops.parents;
                let dy = grads.consume::<B>(&ops.node);
                let (dx, dw, db) = B::conv2d_backward(ops.state, dy, x.is_some());
                for (parent, gradient) in [(x, dx), (w, Some(dw)), (b, Some(db))] {
                    if let (Some(parent), Some(gradient)) = (parent, gradient) {
                        grads.register::<B>(parent.id, gradient);
                    }
                }
            }
        }

        let ((x, x_node), (w, w_node), (b, b_node)) =
            (x.into_parts(), w.into_parts(), b.into_parts());
        match Conv2d.prepare::<C>([x_node, w_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let y = B::conv2d_forward(x.clone(), w.clone(), b, conv, relu);
                let saved = Saved { conv, x, w, y: relu.then(|| y.clone()) };
                prepared.finish(saved, y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::conv2d_forward(x, w, b, conv, relu)),
        }
    }
}
