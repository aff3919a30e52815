//! What the tests of several operations share.

use crate::philox::philox;

#[cfg(feature = "gpu")]
pub(crate) mod gpu;

/// `n` numbers in [-1, 1), the same on every call with the same `seed`.
pub(crate) fn uniform(seed: u32, n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| {
            let bits = philox([u32::try_from(i).expect("a small test"), 0, 0, 0], [seed, 0])[0];
            (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

#[track_caller]
pub(crate) fn assert_same_bits(expected: &[f32], found: &[f32], case: impl std::fmt::Debug) {
    assert_eq!(expected.len(), found.len(), "{case:?}");
    for (i, (x, y)) in expected.iter().zip(found).enumerate() {
        assert_eq!(x.to_bits(), y.to_bits(), "{case:?}: element {i} is {y}, expected {x}");
    }
}

/// Runs `f` on pools of 1, 2, 3 and 8 threads and hands back what all of them gave.
#[track_caller]
pub(crate) fn on_any_threads<T: PartialEq + std::fmt::Debug + Send>(f: impl Fn() -> T + Sync) -> T {
    let run = |n_threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build();
        pool.expect("threads start").install(&f)
    };
    let one = run(1);
    for n_threads in [2, 3, 8] {
        assert!(run(n_threads) == one, "{n_threads} threads give other bits than one");
    }
    one
}

/// In f64.
pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

/// The elements of a tensor of burn's, row-major.
#[cfg(feature = "burn")]
pub(crate) fn elements<const D: usize>(tensor: burn::tensor::Tensor<D>) -> Vec<f32> {
    tensor.try_into_data().expect("a CPU answers").try_into_vec().expect("f32")
}

/// A tensor of `shape` that gradients are asked for, on burn's CPU backend.
#[cfg(feature = "burn")]
pub(crate) fn leaf<const D: usize>(seed: u32, shape: [usize; D]) -> burn::tensor::Tensor<D> {
    use burn::tensor::{Device, Tensor, TensorData};

    let data = TensorData::new(uniform(seed, shape.iter().product()), shape);
    Tensor::<D>::from_data(data, &Device::flex().autodiff()).require_grad()
}

/// `y` and the gradients of sum(y · c) by x, w and b, where c is the same for every y of this shape.
#[cfg(feature = "burn")]
pub(crate) fn flow<const D: usize>(
    y: burn::tensor::Tensor<D>,
    x: &burn::tensor::Tensor<4>,
    w: &burn::tensor::Tensor<4>,
    b: &burn::tensor::Tensor<1>,
) -> Vec<Vec<f32>> {
    let read = |data: Result<burn::tensor::TensorData, _>| {
        data.expect("a CPU answers").try_into_vec::<f32>().expect("f32")
    };
    let c = leaf(99, y.dims()).detach();
    let gradients = (y.clone() * c).sum().backward();
    let flat = |it: Option<burn::tensor::Tensor<4>>| it.map(|it| read(it.try_into_data()));
    let mut all = vec![read(y.inner().try_into_data())];
    all.extend(flat(x.grad(&gradients)));
    all.extend(flat(w.grad(&gradients)));
    all.extend(b.grad(&gradients).map(|it| read(it.try_into_data())));
    all
}
