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

use super::{Kept, Norm};
use crate::flex::{contiguous, dim, floats, tensor};

/// Normalises `x`, rows × height × width × channels, by groups of channels. `gamma` and `beta` have one number a channel.
#[must_use]
pub fn group_norm(x: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>, norm: Norm) -> Tensor<4> {
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(<Dispatch as GroupNormOps>::group_norm(x, gamma, beta, norm))
}

/// The forward pass.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait GroupNormOps: Backend {
    /// See [`super::fused`].
    fn group_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Norm,
    ) -> FloatTensor<Self>;
}

/// What training needs beside it.
pub(crate) trait GroupNormBackward: Backend {
    /// The moments of each picture's groups.
    type Moments: Clone + std::fmt::Debug + Send + 'static;

    /// See [`super::fused`].
    fn group_norm_kept(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Norm,
    ) -> (FloatTensor<Self>, Self::Moments);

    /// See [`super::backward`]: the gradients of x, γ and β.
    fn group_norm_backward(saved: Saved<Self>, dy: FloatTensor<Self>) -> [FloatTensor<Self>; 3];
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
pub(crate) struct Saved<B: GroupNormBackward> {
    pub(crate) norm: Norm,
    pub(crate) x: FloatTensor<B>,
    pub(crate) gamma: FloatTensor<B>,
    /// With ReLU only.
    pub(crate) y: Option<FloatTensor<B>>,
    pub(crate) moments: B::Moments,
}

impl GroupNormOps for Flex {
    fn group_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Norm,
    ) -> FloatTensor<Self> {
        Self::group_norm_kept(x, gamma, beta, norm).0
    }
}

impl GroupNormBackward for Flex {
    type Moments = std::sync::Arc<Vec<super::Moments>>;

    fn group_norm_kept(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Norm,
    ) -> (FloatTensor<Self>, Self::Moments) {
        let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
        let (n, image) = (dim(&x, 0), norm.image);
        let mut y = vec![0.0; n * image.len()];
        let mut moments = vec![[0.0; 2]; n * norm.n_groups];
        super::fused(&norm, floats(&x), floats(&gamma), floats(&beta), &mut y, &mut moments);
        (tensor(y, [n, image.height, image.width, image.n_channels]), moments.into())
    }

    fn group_norm_backward(saved: Saved<Self>, dy: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        let Saved { norm, x, gamma, y, moments } = saved;
        let (x, gamma, dy) = (contiguous(x), contiguous(gamma), contiguous(dy));
        let y = y.map(contiguous);
        let kept = Kept { x: floats(&x), y: y.as_ref().map(floats), moments: &moments };
        let found = super::backward(&norm, kept, floats(&gamma), floats(&dy));
        let (n, image) = (dim(&x, 0), norm.image);
        [
            tensor(found.dx, [n, image.height, image.width, image.n_channels]),
            tensor(found.dgamma, [image.n_channels]),
            tensor(found.dbeta, [image.n_channels]),
        ]
    }
}

impl<B: GroupNormOps + GroupNormBackward, C: CheckpointStrategy> GroupNormOps for Autodiff<B, C> {
    fn group_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        norm: Norm,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct GroupNorm;

        impl<B: GroupNormBackward> Backward<B, 3> for GroupNorm {
            type State = Saved<B>;

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let dy = grads.consume::<B>(&ops.node);
                let gradients = B::group_norm_backward(ops.state, dy);
                for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
                    if let Some(parent) = parent {
                        grads.register::<B>(parent.id, gradient);
                    }
                }
            }
        }

        let ((x, x_node), (gamma, gamma_node), (beta, beta_node)) =
            (x.into_parts(), gamma.into_parts(), beta.into_parts());
        let nodes = [x_node, gamma_node, beta_node];
        match GroupNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (y, moments) = B::group_norm_kept(x.clone(), gamma.clone(), beta, norm);
                let kept = norm.relu.then(|| y.clone());
                prepared.finish(Saved { norm, x, gamma, y: kept, moments }, y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::group_norm(x, gamma, beta, norm)),
        }
    }
}
