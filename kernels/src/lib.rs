//! One file an operation: formula, reference, fused CPU code, backward pass, parity tests.
//!
//! **Bits.** Every operation here gives the same bits for any number of threads and any vector width: work is cut by
//! shape only, partial results are combined in a fixed order, and each output element is one fixed chain of IEEE
//! operations. Products are always fused multiply-adds, so the naive reference agrees bit for bit.
//!
//! Without features: plain slices. Feature `burn`: what makes burn run them on its CPU backend, with gradients. Feature
//! `gpu`, which `wgpu`, `vulkan` and `cuda` bring: `#[cube]` kernels for its GPU backends, in a file `gpu.rs` beside the CPU's.
//!
//! Reading order: [`matmul`] (all the arithmetic), [`activation`], [`linear`], [`table_input`], [`dropout`], [`bce`],
//! [`cross_entropy`], [`squared_error`], [`loss`], [`sum`], [`global_norm`], [`adamw`], [`sgd`], [`lion`], [`ema`],
//! [`layer_norm`], [`embedding`], [`attention`], [`row_sum`], [`histogram`]; for pictures [`window`] (sizes), [`conv2d`], [`max_pool`], [`conv_pool`] (both in one
//! pass), [`group_norm`], [`average_pool`]; below them [`philox`] (random bits), [`precision`] (f32 or bf16), [`frozen`] (weights packed once), [`simd`]
//! (plain loops made vectors) and [`elementary`] (exp, tanh, erf).

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod average_pool;
pub mod bce;
pub mod conv2d;
pub mod conv_pool;
pub mod cross_entropy;
pub mod dropout;
pub mod elementary;
pub mod ema;
pub mod embedding;
#[cfg(feature = "burn")]
mod flex;
#[cfg(feature = "burn")]
pub mod frozen;
pub mod global_norm;
#[cfg(feature = "gpu")]
mod gpu;
pub mod group_norm;
pub mod histogram;
pub mod layer_norm;
pub mod linear;
pub mod lion;
pub mod loss;
pub mod matmul;
pub mod max_pool;
mod memory;
pub mod philox;
pub mod precision;
pub mod row_sum;
pub mod sgd;
pub mod simd;
pub mod squared_error;
pub mod sum;
pub mod table_input;
#[cfg(test)]
mod testing;
pub mod window;
