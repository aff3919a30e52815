//! What makes burn run it.

use burn::{
    backend::{Autodiff, Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
    tensor::Tensor,
};
use burn_autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};

use super::{Affine, Moments};
use crate::flex::{contiguous, dim, floats, retire, tensor, unwritten};

/// Each row (along the last dimension) of `x` normalised; `gamma` and `beta` are as wide as a row.
#[must_use]
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    eps: f64,
) -> Tensor<D> {
    let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(<Dispatch as LayerNormOps>::layer_norm_rows(x, gamma, beta, eps))
}

/// Each row of `x` + `residual` normalised.
#[must_use]
pub fn residual_layer_norm<const D: usize>(
    x: Tensor<D>,
    residual: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    eps: f64,
) -> Tensor<D> {
    let (x, residual) = (x.into_dispatch(), residual.into_dispatch());
    let (gamma, beta) = (gamma.into_dispatch(), beta.into_dispatch());
    Tensor::from_dispatch(<Dispatch as LayerNormOps>::residual_layer_norm_rows(
        x, residual, gamma, beta, eps,
    ))
}

/// The forward pass.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait LayerNormOps: Backend {
    /// See [`super::fused`].
    fn layer_norm_rows(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;

    /// See [`super::fused`].
    fn residual_layer_norm_rows(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
}

/// Both passes with what goes between them.
pub(crate) trait LayerNormBackward: Backend {
    /// (y, moments): the moments are rows × 2.
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`super::backward`]: the gradients of x and residual, gamma, beta.
    fn layer_norm_backward(
        saved: Saved<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
pub(crate) struct Saved<B: Backend> {
    pub(crate) x: FloatTensor<B>,
    pub(crate) residual: Option<FloatTensor<B>>,
    pub(crate) gamma: FloatTensor<B>,
    pub(crate) moments: FloatTensor<B>,
}

impl LayerNormOps for Flex {
    fn layer_norm_rows(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        Self::layer_norm_forward(x, None, gamma, beta, eps).0
    }

    fn residual_layer_norm_rows(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        Self::layer_norm_forward(x, Some(residual), gamma, beta, eps).0
    }
}

impl LayerNormBackward for Flex {
    fn layer_norm_forward(
        x: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let shape = x.layout().shape().clone();
        let (x, residual) = (contiguous(x), residual.map(contiguous));
        let (gamma, beta) = (contiguous(gamma), contiguous(beta));
        let affine = Affine { gamma: floats(&gamma), beta: floats(&beta), eps };
        let n = floats(&x).len();
        let n_rows = n / dim(&gamma, 0).max(1);
        let (mut y, mut moments) = (unwritten(n), vec![Moments::default(); n_rows]);
        super::fused(floats(&x), residual.as_ref().map(floats), affine, &mut y, &mut moments);
        let y = tensor(y, [n]).reshape(shape);
        std::iter::once(x).chain(residual).for_each(retire);
        (y, tensor(moments.into_flattened(), [n_rows, 2]))
    }

    fn layer_norm_backward(
        saved: Saved<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let Saved { x, residual, gamma, moments } = saved;
        let (x, residual, gamma) = (contiguous(x), residual.map(contiguous), contiguous(gamma));
        let dy = contiguous(dy);
        let (shape, width) = (x.layout().shape().clone(), dim(&gamma, 0));
        let (moments, _) = floats(&moments).as_chunks();
        let residual = residual.as_ref().map(floats);
        let found = super::backward(floats(&x), residual, floats(&gamma), moments, floats(&dy));
        let n = found.dx.len();
        (
            tensor(found.dx, [n]).reshape(shape),
            tensor(found.dgamma, [width]),
            tensor(found.dbeta, [width]),
        )
    }
}

/// Parents: x, gamma, beta, and last the residual where there is one.
#[derive(Debug)]
struct LayerNorm;

impl<B: LayerNormBackward, const N: usize> Backward<B, N> for LayerNorm {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (dx, dgamma, dbeta) = B::layer_norm_backward(ops.state, dy);
        let gradients = [dx.clone(), dgamma, dbeta, dx];
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

impl<B: LayerNormOps + LayerNormBackward, C: CheckpointStrategy> LayerNormOps for Autodiff<B, C> {
    fn layer_norm_rows(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (gamma, gamma_node), (beta, beta_node)) =
            (x.into_parts(), gamma.into_parts(), beta.into_parts());
        let nodes = [x_node, gamma_node, beta_node];
        match LayerNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (y, moments) = B::layer_norm_forward(x.clone(), None, gamma.clone(), beta, eps);
                prepared.finish(Saved { x, residual: None, gamma, moments }, y)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::layer_norm_rows(x, gamma, beta, eps))
            }
        }
    }

    fn residual_layer_norm_rows(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (residual, residual_node), (gamma, gamma_node), (beta, beta_node)) =
            (x.into_parts(), residual.into_parts(), gamma.into_parts(), beta.into_parts());
        let nodes = [x_node, gamma_node, beta_node, residual_node];
        match LayerNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (y, moments) = B::layer_norm_forward(
                    x.clone(),
                    Some(residual.clone()),
                    gamma.clone(),
                    beta,
                    eps,
                );
                prepared.finish(Saved { x, residual: Some(residual), gamma, moments }, y)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::residual_layer_norm_rows(x, residual, gamma, beta, eps))
            }
        }
    }
}
