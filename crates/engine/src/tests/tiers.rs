//! The tiers of reproducibility, each shown for every architecture and every device of the build (docs/reproducibility.md).
//!
//! All golden digests were also computed from `core::rng`'s definitions by a
//! program of another language.

use burn::tensor::{Device, Tensor};
use karat_core::{
    Batch, Digest, DigestBuilder, FeaturePlan, ModelSpec, Tier, TrainSpec,
    port::{Engine, TrainEnd},
    rng::{Purpose, Stream},
};
use karat_kernels::{dropout, philox::Draw};
use karat_models::parameter;

use super::{
    Io, N_TRAIN, as_pictures, binary, complete, eval_batch, fingerprint, scores, spec, train,
};
use crate::{
    BurnEngine, Order,
    device::{DeviceName, Opened},
    network,
};

/// Every architecture, small. The `match` is here so that a new one cannot be forgotten.
fn families() -> Vec<(&'static str, ModelSpec)> {
    let name = |spec: &ModelSpec| match spec {
        ModelSpec::Linear => "linear",
        ModelSpec::Mlp { .. } => "mlp",
        ModelSpec::ResMlp { .. } => "resmlp",
        ModelSpec::FtTransformer { .. } => "ft_transformer",
        ModelSpec::Cnn { .. } => "cnn",
        ModelSpec::ResNet { .. } => "resnet",
    };
    [
        ModelSpec::Linear,
        ModelSpec::Mlp { hidden: vec![16, 8], embedding_max: 4, dropout: 0.1 },
        ModelSpec::ResMlp { width: 8, blocks: 2, expansion: 2, embedding_max: 4, dropout: 0.1 },
        ModelSpec::FtTransformer { width: 8, blocks: 2, heads: 2, expansion: 2, dropout: 0.1 },
        ModelSpec::Cnn { filters: vec![8, 9], hidden: vec![10], dropout: 0.1 },
        ModelSpec::ResNet { filters: vec![8, 12] },
    ]
    .map(|spec| (name(&spec), spec))
    .into()
}

/// `plan`, or what an architecture for images reads instead.
fn read_by(model: &ModelSpec, plan: FeaturePlan) -> FeaturePlan {
    match model {
        ModelSpec::Cnn { .. } | ModelSpec::ResNet { .. } => as_pictures(plan),
        _ => plan,
    }
}

fn of_family(model: &ModelSpec) -> TrainSpec {
    TrainSpec { model: model.clone(), epochs: 1, ..spec() }
}

/// Every device of this build that opens here.
fn devices() -> Vec<(String, Device)> {
    let names = if cfg!(feature = "wgpu") { vec!["cpu", "wgpu"] } else { vec!["cpu"] };
    let name = |text: &str| DeviceName::parse(text).expect("a name");
    let opened = names.into_iter().filter_map(|it| Opened::open(name(it)).ok());
    opened.map(|it| (it.name.to_string(), it.device)).collect()
}

fn digest(numbers: &[f32]) -> String {
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_bits().to_le_bytes()).collect();
    Digest::of(&bytes).short()
}

#[test]
fn r0_the_order_of_rows_is_the_golden_one() {
    let (mut order, mut rows) = (Order::shuffled(&spec(), N_TRAIN), Vec::new());
    let mut all = DigestBuilder::new("rows");
    for update in 0..64 {
        order.rows_at(update, &mut rows);
        let bytes: Vec<u8> = rows.iter().flat_map(|row| row.to_le_bytes()).collect();
        all.field(&bytes);
        if update == 0 {
            assert_eq!(rows[..4], [212, 615, 928, 252]);
        }
    }
    assert_eq!(all.finish().short(), "d38379c9");
}

#[test]
fn r0_dropout_masks_are_the_golden_ones_on_every_device_and_thread_count() {
    let key = Stream::new(7, Purpose::Dropout, "layers.0").key();
    for (name, device) in devices() {
        for threads in [1, 2, 3, 8] {
            let drawn = crate::device::threads(threads).expect("starts").install(|| {
                let mask = dropout::Mask::new(0.25, Draw { key, first_row: 3, major: 1 << 33 });
                let kept = dropout::dropout(Tensor::<2>::ones([257, 67], &device), mask);
                crate::device::read(kept).expect("reads")
            });
            let dropped = drawn.iter().filter(|x| x.to_bits() == 0).count();
            assert!((4000..4600).contains(&dropped), "{dropped} of {} dropped", drawn.len());
            assert_eq!(digest(&drawn), "e0f32a79", "{name}, {threads} threads");
        }
    }
}

#[test]
fn r0_initial_weights_are_the_golden_ones_on_every_device_and_thread_count() {
    let golden: Vec<(&str, &str)> = vec![
        ("linear", "b4384de9"),
        ("mlp", "6a57f363"),
        ("resmlp", "38c9f54d"),
        ("ft_transformer", "4d66d2f0"),
        ("cnn", "6a1cef32"),
        ("resnet", "bb178f38"),
    ];
    let mut found = Vec::new();
    for (family, model) in families() {
        let plan = read_by(&model, binary());
        let config = network::config(&of_family(&model), &plan).expect("reads rows");
        let mut digests = Vec::new();
        for (_, device) in devices() {
            for threads in [1, 2, 3, 8] {
                let pool = crate::device::threads(threads).expect("starts");
                let numbers: Vec<f32> = pool.install(|| {
                    let values = parameter::values(&network::fresh(&config, 7, &device));
                    values
                        .into_iter()
                        .flat_map(|it| crate::device::read(it).expect("reads"))
                        .collect()
                });
                digests.push(digest(&numbers));
            }
        }
        digests.dedup();
        assert_eq!(digests.len(), 1, "{family}: devices or threads differ: {digests:?}");
        found.push((family, digests.remove(0)));
    }
    let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (*a, b.as_str())).collect();
    assert_eq!(found, golden);
}

#[test]
fn r1_stopped_at_every_update_and_resumed_is_uninterrupted() {
    for (family, model) in families() {
        let plan = read_by(&model, binary());
        let spec = TrainSpec { accumulate: 2, ..of_family(&model) };
        let (whole, io) = train(&spec, &plan);
        let (expected, n_updates) = (fingerprint(&whole, &io.log), io.log.len() as u64);
        assert_eq!(n_updates, 16);
        for stop_at in 0..n_updates {
            let mut io = Io::new(&plan);
            io.stop_at = Some(stop_at);
            let threads = |n: u64| TrainSpec { threads: n as usize, ..spec.clone() };
            let end = BurnEngine.train(&threads(1 + stop_at % 3), &plan, None, &mut io);
            assert!(matches!(end, Ok(TrainEnd::Stopped { update }) if update == stop_at));
            let (files, _) = io.kept.pop().expect("stopping keeps a checkpoint");
            (io.stop_at, io.n_updates) = (None, stop_at);
            let resumed = complete(&threads(3 - stop_at % 3), &plan, Some(files), &mut io);
            assert_eq!(fingerprint(&resumed, &io.log), expected, "{family} stopped at {stop_at}");
        }
    }
}

#[test]
fn r2_twice_is_the_same_bits_on_1_2_3_and_8_threads() {
    for (family, model) in families() {
        let plan = read_by(&model, binary());
        let run = |threads: usize, seed: u64| {
            let spec = TrainSpec { threads, seed, ..of_family(&model) };
            let (files, io) = train(&spec, &plan);
            fingerprint(&files, &io.log)
        };
        let one = run(1, 7);
        for threads in [1, 2, 3, 8] {
            assert_eq!(run(threads, 7), one, "{family}, {threads} threads");
        }
        assert_ne!(run(1, 8), one, "{family}: the seed must matter");
    }
}

/// The rows `rows` of `batch`, in that order.
fn pick(batch: &Batch, rows: &[usize]) -> Batch {
    let mut picked = Batch::new(batch.n_numeric, batch.n_categorical);
    (picked.n_rows, picked.n_pixels) = (rows.len(), batch.n_pixels);
    for row in rows {
        let of = |width: usize| row * width..(row + 1) * width;
        picked.numeric.extend_from_slice(&batch.numeric[of(batch.n_numeric)]);
        picked.categorical.extend_from_slice(&batch.categorical[of(batch.n_categorical)]);
        picked.pixels.extend_from_slice(&batch.pixels[of(batch.n_pixels)]);
    }
    picked
}

fn together(
    spec: &TrainSpec,
    plan: &FeaturePlan,
    model: &[u8],
    batch: &Batch,
    cut: usize,
) -> Vec<u32> {
    let rows: Vec<usize> = (0..batch.n_rows).collect();
    let parts = rows.chunks(cut).map(|rows| scores(spec, plan, model, &pick(batch, rows)));
    parts.flatten().map(f32::to_bits).collect()
}

#[test]
fn r3_a_score_does_not_depend_on_its_batch() {
    for plan in [binary(), super::multiclass(), super::regression()] {
        let n_outputs = plan.label.n_outputs();
        for (family, model) in families() {
            let plan = read_by(&model, plan.clone());
            let (files, _) = train(&of_family(&model), &plan);
            let batch = eval_batch(&plan);
            let spec = of_family(&model);
            let score = |batch: &Batch, cut| together(&spec, &plan, &files.model, batch, cut);
            let whole = score(&batch, batch.n_rows);
            assert_eq!(whole.len(), batch.n_rows * n_outputs);
            for cut in [1, 2, 7, 64] {
                assert_eq!(score(&batch, cut), whole, "{family} in batches of {cut}");
            }
            // 101 has no factor in common with 300: every row once, each among other neighbours.
            let shuffled: Vec<usize> =
                (0..batch.n_rows).map(|i| (i * 101 + 7) % batch.n_rows).collect();
            let found = score(&pick(&batch, &shuffled), batch.n_rows);
            for (i, row) in shuffled.iter().enumerate() {
                let of = |i: usize| i * n_outputs..(i + 1) * n_outputs;
                assert_eq!(found[of(i)], whole[of(*row)], "{family}: row {row} at place {i}");
            }
        }
    }
}

#[test]
fn a_training_says_what_it_keeps_and_where_it_ran() {
    let it = BurnEngine.environment(&spec()).expect("there is a cpu");
    assert_eq!(it.tiers, [Tier::Order, Tier::Resume, Tier::Repeat, Tier::Score]);
    assert_eq!((it.device.as_str(), it.precision.as_str(), it.n_threads), ("cpu", "f32", 2));
    assert!(!it.instructions.is_empty());
    let elsewhere = TrainSpec { device: "cuda:7".to_owned(), ..spec() };
    let failure = BurnEngine.environment(&elsewhere).expect_err("no such device");
    assert_eq!(failure.code.as_str(), "device-absent");
}

#[test]
fn the_log_holds_digests_of_the_weights_at_powers_of_two() {
    let (_, io) = train(&of_family(&ModelSpec::Linear), &binary());
    let with: Vec<u64> =
        io.log.iter().filter(|it| it.weights.is_some()).map(|it| it.update).collect();
    assert_eq!(with, [1, 2, 4, 8, 16]);
    let mut stopped = Io::new(&binary());
    stopped.stop_at = Some(4);
    let _ = BurnEngine.train(&of_family(&ModelSpec::Linear), &binary(), None, &mut stopped);
    let (files, _) = stopped.kept.pop().expect("kept");
    assert_eq!(io.log[3].weights, Some(Digest::of(&files.model)), "as the checkpoint has them");
}
