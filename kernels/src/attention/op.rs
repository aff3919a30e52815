//! What makes burn run it.

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

use super::Shape;
use crate::flex::{contiguous, dim, floats, integers, retire, tensor, unwritten};

/// See [`super`]: `qkv` is rows (sequence, position) × 3 · width, `lengths` the number of keys of each sequence, I32. The
/// result is rows × width.
#[must_use]
pub fn attention(qkv: Tensor<2>, lengths: Tensor<1, Int>, shape: Shape) -> Tensor<2> {
    let (qkv, lengths) = (qkv.into_dispatch(), lengths.into_dispatch());
    Tensor::from_dispatch(<Dispatch as AttentionOps>::self_attention(qkv, lengths, shape))
}

/// The forward pass.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait AttentionOps: Backend {
    /// See [`super::fused`].
    fn self_attention(
        qkv: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        shape: Shape,
    ) -> FloatTensor<Self>;
}

/// Both passes with what goes between them.
pub(crate) trait AttentionBackward: Backend {
    /// (out, log_sums): rows × width, rows × heads.
    fn attention_forward(
        qkv: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        shape: Shape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`super::backward`].
    fn attention_backward(
        saved: Saved<Self>,
        shape: Shape,
        dout: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
pub(crate) struct Saved<B: Backend> {
    pub(crate) qkv: FloatTensor<B>,
    pub(crate) lengths: IntTensor<B>,
    pub(crate) out: FloatTensor<B>,
    pub(crate) log_sums: FloatTensor<B>,
}

impl AttentionOps for Flex {
    fn self_attention(
        qkv: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        shape: Shape,
    ) -> FloatTensor<Self> {
        Self::attention_forward(qkv, lengths, shape).0
    }
}

impl AttentionBackward for Flex {
    fn attention_forward(
        qkv: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        shape: Shape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (qkv, lengths) = (contiguous(qkv), contiguous(lengths));
        let n_rows = dim(&qkv, 0);
        let mut out = unwritten(n_rows * shape.width());
        let mut log_sums = unwritten(n_rows * shape.n_heads);
        super::fused(floats(&qkv), integers(&lengths), shape, &mut out, &mut log_sums);
        retire(qkv);
        (tensor(out, [n_rows, shape.width()]), tensor(log_sums, [n_rows, shape.n_heads]))
    }

    fn attention_backward(
        saved: Saved<Self>,
        shape: Shape,
        dout: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let Saved { qkv, lengths, out, log_sums } = saved;
        let (qkv, lengths, dout) = (contiguous(qkv), contiguous(lengths), contiguous(dout));
        let mut dqkv = unwritten(floats(&qkv).len());
        super::backward(
            floats(&qkv),
            integers(&lengths),
            shape,
            floats(&out),
            floats(&log_sums),
            floats(&dout),
            &mut dqkv,
        );
        let shape = [dim(&qkv, 0), dim(&qkv, 1)];
        [qkv, out, dout].into_iter().for_each(retire);
        tensor(dqkv, shape)
    }
}

impl<B: AttentionOps + AttentionBackward, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn self_attention(
        qkv: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        shape: Shape,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Attention;

        impl<B: AttentionBackward> Backward<B, 1> for Attention {
            type State = (Saved<B>, Shape);

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let [parent] = ops.parents;
                let dout = grads.consume::<B>(&ops.node);
                if let Some(parent) = parent {
                    let (saved, shape) = ops.state;
                    grads.register::<B>(parent.id, B::attention_backward(saved, shape, dout));
                }
            }
        }

        let (qkv, node) = qkv.into_parts();
        match Attention.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (out, log_sums) = B::attention_forward(qkv.clone(), lengths.clone(), shape);
                let saved = Saved { qkv, lengths, out: out.clone(), log_sums };
                prepared.finish((saved, shape), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::self_attention(qkv, lengths, shape)),
        }
    }
}
