//! Training through the port, with rows in memory: what is learned, what is refused, and that an interruption leaves no
//! trace. What is promised of bits: [`tiers`].

use std::collections::BTreeMap;

use karat_core::{
    Batch, ClassWeights, ColumnType, Digest, Event, Failure, Feature, FeaturePlan, ImagePlan,
    LabelPlan, ModelSpec, Precision, TrainSpec, UpdateRecord,
    plan::Encoding,
    port::{CheckpointFiles, EncodedRows, Engine, TrainEnd, TrainIo},
    project::{
        CheckpointPolicy, DevicePolicy, EarlyStopping, OptimizerSpec, Sampling, ScheduleSpec,
    },
    rng::{Purpose, Stream},
    tensors::{Tensors, Writer},
};

use crate::BurnEngine;

mod faults;
#[cfg(feature = "gpu")]
mod gpu;
mod keys;
mod precision;
mod tiers;

const N_TRAIN: u64 = 1000;
const N_EVAL: u64 = 300;

/// A small spec: 4 epochs of 16 updates.
pub(crate) fn spec() -> TrainSpec {
    let name = |text: &str| text.parse().expect("a name");
    TrainSpec {
        dataset: name("toy"),
        name: name("toy"),
        model: ModelSpec::Mlp { hidden: vec![16, 8], embedding_max: 4, dropout: 0.1 },
        task: None,
        positive: None,
        precision: Precision::F32,
        seed: 7,
        epochs: 4,
        batch_size: 64,
        accumulate: 1,
        optimizer: OptimizerSpec::adamw(),
        learning_rate: 0.01,
        schedule: ScheduleSpec::Cosine,
        warmup: 0.1,
        learning_rate_final: 0.0,
        weight_decay: 0.01,
        no_decay: Vec::new(),
        clip_norm: 1.0,
        ema: None,
        label_smoothing: 0.0,
        class_weights: ClassWeights::None,
        sampling: Sampling::Uniform,
        evaluate_every: 0,
        max_seconds: None,
        early_stopping: None,
        non_finite_max: 0,
        split_train: name("train"),
        split_eval: name("eval"),
        checkpoint: CheckpointPolicy {
            every_updates: 0,
            every_seconds: 0,
            ..CheckpointPolicy::default()
        },
        device: "cpu".to_owned(),
        threads: 2,
        memory_max: None,
        device_policy: DevicePolicy::default(),
    }
}

/// Two numbers and one category of five slots.
fn plan(label: LabelPlan) -> FeaturePlan {
    let number = |column: &str| Feature {
        column: column.to_owned(),
        ty: ColumnType::Float,
        encoding: Encoding::Numeric { mean: 0.0, std: 1.0, missing_flag: false },
    };
    let category = Feature {
        column: "c".to_owned(),
        ty: ColumnType::Text,
        encoding: Encoding::Categorical { vocabulary: ["x", "y", "z"].map(str::to_owned).into() },
    };
    FeaturePlan {
        features: vec![number("a"), number("b"), category],
        label,
        weight: None,
        image: None,
    }
}

pub(crate) fn binary() -> FeaturePlan {
    plan(LabelPlan::Binary {
        column: "late".to_owned(),
        classes: vec!["no".to_owned(), "yes".to_owned()],
        counts: vec![800, 200],
    })
}

fn multiclass() -> FeaturePlan {
    plan(LabelPlan::Multiclass {
        column: "kind".to_owned(),
        classes: vec!["p".to_owned(), "q".to_owned(), "r".to_owned()],
        counts: vec![400, 300, 300],
    })
}

fn regression() -> FeaturePlan {
    plan(LabelPlan::Regression { column: "price".to_owned(), mean: 100.0, std: 20.0 })
}

/// The same rows as pictures, grey, [`SIDE`] × [`SIDE`].
fn as_pictures(plan: FeaturePlan) -> FeaturePlan {
    let (column, mean, std) = ("picture".to_owned(), vec![0.5], vec![0.25]);
    let image = ImagePlan { column, channels: 1, height: SIDE, width: SIDE, mean, std };
    FeaturePlan { features: Vec::new(), image: Some(image), ..plan }
}

/// Pixels of a picture, high and wide.
const SIDE: u32 = 6;

/// What decides the label: an exclusive or with a shift by category, which no linear model can draw.
fn truth(a: f32, b: f32, slot: u32) -> f32 {
    if (a < 0.0) == (b < 0.0) { 1.0 } else { -1.0 + 0.2 * slot as f32 }
}

/// Rows that are functions of their number.
#[derive(Clone)]
struct Rows {
    plan: FeaturePlan,
    name: &'static str,
    n: u64,
    /// Row whose label is NaN.
    poison: Option<u64>,
}

impl EncodedRows for Rows {
    fn n_rows(&self) -> u64 {
        self.n
    }

    fn fetch(&mut self, rows: &[u64], into: &mut Batch) -> Result<(), Failure> {
        *into = match &self.plan.image {
            None => Batch::new(2, 1),
            Some(image) => Batch { n_pixels: image.shape().n_bytes(), ..Batch::default() },
        };
        into.n_rows = rows.len();
        let stream = Stream::new(1, Purpose::Permute, self.name);
        for row in rows {
            let unit = |i| 2.0 * stream.uniform(i, 0, *row) - 1.0;
            let (a, b, slot) = (unit(0), unit(1), stream.bits(2, 0, *row) % 5);
            let value = truth(a, b, slot);
            if self.plan.image.is_none() {
                into.numeric.extend([a, b]);
                into.categorical.push(slot);
            }
            // Noise, and a bright line that lies or stands.
            into.pixels.extend((0..into.n_pixels as u32).map(|pixel| {
                let along = if 0.0 < value { pixel / SIDE } else { pixel % SIDE };
                let noise = (stream.bits(8 + pixel, 0, *row) % 128) as u8;
                if along == slot { noise + 127 } else { noise }
            }));
            into.label.push(match &self.plan.label {
                _ if self.poison == Some(*row) => f32::NAN,
                LabelPlan::Binary { .. } => f32::from(u8::from(0.0 < value)),
                LabelPlan::Multiclass { .. } => {
                    if 0.0 < value {
                        0.0
                    } else {
                        1.0 + f32::from(u8::from(2 < slot))
                    }
                }
                LabelPlan::Regression { .. } => value,
            });
            if self.plan.weight.is_some() {
                into.weight.push(if 0.0 < value { 9.0 } else { 1.0 });
            }
        }
        Ok(())
    }
}

/// An observer in memory.
struct Io {
    train: Rows,
    eval: Option<Rows>,
    stop_at: Option<u64>,
    out_of_time_at: Option<u64>,
    kept: Vec<(CheckpointFiles, bool)>,
    log: Vec<UpdateRecord>,
    events: Vec<Event>,
    n_updates: u64,
}

impl Io {
    fn new(plan: &FeaturePlan) -> Self {
        let rows = |name, n| Rows { plan: plan.clone(), name, n, poison: None };
        Self {
            train: rows("train", N_TRAIN),
            eval: Some(rows("eval", N_EVAL)),
            stop_at: None,
            out_of_time_at: None,
            kept: Vec::new(),
            log: Vec::new(),
            events: Vec::new(),
            n_updates: 0,
        }
    }
}

impl TrainIo for Io {
    fn train_rows(&mut self) -> &mut dyn EncodedRows {
        &mut self.train
    }

    fn eval_rows(&mut self) -> Option<&mut dyn EncodedRows> {
        self.eval.as_mut().map(|it| it as &mut dyn EncodedRows)
    }

    fn keep(&mut self, files: CheckpointFiles, is_best: bool) -> Result<(), Failure> {
        self.kept.push((files, is_best));
        Ok(())
    }

    fn log(&mut self, record: &UpdateRecord) -> Result<(), Failure> {
        self.n_updates = record.update;
        self.log.push(*record);
        Ok(())
    }

    fn observe(&mut self, event: Event) {
        self.events.push(event);
    }

    fn stop_requested(&self) -> bool {
        self.stop_at == Some(self.n_updates)
    }

    fn save_is_due(&mut self) -> bool {
        false
    }

    fn is_out_of_time(&self) -> bool {
        self.out_of_time_at.is_some_and(|it| it <= self.n_updates)
    }
}

fn complete(
    spec: &TrainSpec,
    plan: &FeaturePlan,
    start: Option<CheckpointFiles>,
    io: &mut Io,
) -> CheckpointFiles {
    match BurnEngine.train(spec, plan, start, io) {
        Ok(TrainEnd::Complete(files)) => *files,
        other => panic!("not complete: {other:?}"),
    }
}

fn train(spec: &TrainSpec, plan: &FeaturePlan) -> (CheckpointFiles, Io) {
    let mut io = Io::new(plan);
    let files = complete(spec, plan, None, &mut io);
    (files, io)
}

fn scores(spec: &TrainSpec, plan: &FeaturePlan, model: &[u8], batch: &Batch) -> Vec<f32> {
    let mut scoring = BurnEngine.open(spec, plan, model, "cpu").expect("opens");
    scoring.score(batch).expect("scores")
}

fn eval_batch(plan: &FeaturePlan) -> Batch {
    let mut batch = Batch::default();
    let mut rows = Io::new(plan).eval.expect("there is one");
    rows.fetch(&(0..N_EVAL).collect::<Vec<_>>(), &mut batch).expect("in memory");
    batch
}

/// Everything that must not depend on luck, as one digest.
fn fingerprint(files: &CheckpointFiles, log: &[UpdateRecord]) -> Vec<Digest> {
    let log = serde_json::to_vec(log).expect("serialises");
    let state = serde_json::to_vec(&files.state).expect("serialises");
    [&files.model, &files.optimizer, &state, &log].map(|bytes| Digest::of(bytes)).into()
}

#[test]
fn a_network_learns_what_a_linear_model_cannot() {
    let plan = binary();
    let batch = eval_batch(&plan);
    let accuracy = |spec: &TrainSpec| {
        let (files, _) = train(spec, &plan);
        let scores = scores(spec, &plan, &files.model, &batch);
        let right = scores.iter().zip(&batch.label).filter(|(p, y)| (0.5 < **p) == (0.5 < **y));
        right.count() as f64 / scores.len() as f64
    };
    let mut spec = spec();
    spec.epochs = 20;
    let network = accuracy(&spec);
    assert!(0.93 < network, "{network}");
    spec.model = ModelSpec::Linear;
    let linear = accuracy(&spec);
    assert!(linear < 0.75, "{linear}");
}

#[test]
fn many_classes_and_numbers_are_learned_in_their_own_units() {
    let mut spec = spec();
    spec.epochs = 20;

    let plan = multiclass();
    let batch = eval_batch(&plan);
    let (files, _) = train(&spec, &plan);
    let found = scores(&spec, &plan, &files.model, &batch);
    let mut right = 0;
    for (p, y) in found.chunks(3).zip(&batch.label) {
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{p:?}");
        right += u32::from(p.iter().all(|it| *it <= p[*y as usize]));
    }
    assert!(270 < right, "{right} of 300");

    let plan = regression();
    let batch = eval_batch(&plan);
    let (files, _) = train(&spec, &plan);
    let found = scores(&spec, &plan, &files.model, &batch);
    let errors = found.iter().zip(&batch.label).map(|(x, y)| (x - (y * 20.0 + 100.0)).powi(2));
    let rmse = (errors.sum::<f32>() / found.len() as f32).sqrt();
    assert!(rmse < 10.0, "{rmse}: the label's own standard deviation is about 19");
}

/// The promise: interrupted anywhere, in another process, with other threads, nothing differs.
#[test]
fn interrupted_at_any_update_is_uninterrupted_byte_for_byte() {
    let plan = binary();
    let mut spec = spec();
    (spec.epochs, spec.accumulate) = (3, 2);
    spec.early_stopping = Some(EarlyStopping { patience: 2 });
    let (whole, io) = train(&spec, &plan);
    let expected = fingerprint(&whole, &io.log);
    let n_updates = io.log.len() as u64;
    assert_eq!(n_updates, 48);

    for stop_at in (0..n_updates).filter(|it| it % 7 == 0 || it % 16 == 0 || it % 16 == 1) {
        let mut io = Io::new(&plan);
        io.stop_at = Some(stop_at);
        spec.threads = 1 + (stop_at % 3) as usize;
        let end = BurnEngine.train(&spec, &plan, None, &mut io).expect("stops");
        assert!(matches!(end, TrainEnd::Stopped { update } if update == stop_at), "{end:?}");
        let (files, _) = io.kept.pop().expect("stopping keeps a checkpoint");
        assert_eq!(files.state.update, stop_at);

        spec.threads = 3 - (stop_at % 3) as usize;
        (io.stop_at, io.n_updates) = (None, stop_at);
        let resumed = complete(&spec, &plan, Some(files), &mut io);
        assert_eq!(fingerprint(&resumed, &io.log), expected, "stopped at {stop_at}");
    }
}

#[test]
fn accumulated_micro_batches_make_the_same_update_but_for_rounding() {
    let plan = binary();
    let mut spec = spec();
    spec.model = ModelSpec::Mlp { hidden: vec![16], embedding_max: 4, dropout: 0.0 };
    spec.epochs = 1;
    let (_, whole) = train(&spec, &plan);
    spec.accumulate = 3;
    let (_, parts) = train(&spec, &plan);
    for (a, b) in whole.log.iter().zip(&parts.log) {
        assert!((a.loss - b.loss).abs() < 1e-5 * a.loss, "{a:?} {b:?}");
        assert!((a.gradient_norm - b.gradient_norm).abs() < 1e-3 * a.gradient_norm, "{a:?} {b:?}");
    }
}

#[test]
fn early_stopping_goes_back_to_the_best_weights() {
    let plan = binary();
    let mut spec = spec();
    // Rises so steeply that the eval loss gets worse after a while.
    (spec.epochs, spec.learning_rate, spec.warmup) = (60, 0.3, 0.9);
    spec.early_stopping = Some(EarlyStopping { patience: 2 });
    let (files, io) = train(&spec, &plan);
    let evaluations: Vec<(u64, f64)> = io
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Evaluated { update, loss, .. } => Some((*update, *loss)),
            _ => None,
        })
        .collect();
    let (best_update, best_loss) =
        evaluations.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).expect("evaluated");
    assert_eq!(files.state.best_update, best_update);
    let (last_update, _) = *evaluations.last().expect("evaluated");
    assert_eq!(last_update, best_update + 2 * 16, "stops after two evaluations without gain");
    assert!(files.state.update < 60 * 16, "never stopped early");

    let batch = eval_batch(&plan);
    let loss = scores(&spec, &plan, &files.model, &batch)
        .iter()
        .zip(&batch.label)
        .map(|(p, y)| -f64::from(if 0.5 < *y { *p } else { 1.0 - p }).ln())
        .sum::<f64>()
        / batch.n_rows as f64;
    assert!((loss - best_loss).abs() < 1e-4, "{loss}, best was {best_loss}");
    let best = io.kept.iter().rfind(|(_, is_best)| *is_best).expect("kept");
    assert_eq!(best.0.model, files.model);
}

#[test]
fn checkpoints_come_every_so_many_updates() {
    let mut spec = spec();
    spec.checkpoint.every_updates = 20;
    spec.checkpoint.keep_best = 0;
    let (_, io) = train(&spec, &binary());
    let kept: Vec<u64> = io.kept.iter().map(|(files, _)| files.state.update).collect();
    assert_eq!(kept, [20, 40, 60]);
}

#[test]
fn a_nan_stops_training_and_names_its_rows_unless_it_may_be_skipped() {
    let plan = binary();
    let mut spec = spec();
    spec.epochs = 2;
    let poisoned = || {
        let mut io = Io::new(&plan);
        io.train.poison = Some(123);
        io
    };
    let failure = BurnEngine.train(&spec, &plan, None, &mut poisoned()).expect_err("a NaN");
    assert_eq!(failure.code.as_str(), "loss-not-finite");
    assert!(failure.details.iter().any(|it| it == "1 of them have no label"), "{failure:?}");

    spec.non_finite_max = 1;
    let failure = BurnEngine.train(&spec, &plan, None, &mut poisoned()).expect_err("one an epoch");
    assert!(
        failure.details.iter().any(|it| it.starts_with("1 updates were skipped")),
        "{failure:?}"
    );

    spec.non_finite_max = 2;
    let mut io = poisoned();
    let files = complete(&spec, &plan, None, &mut io);
    assert_eq!(files.state.n_skipped, 2);
    let skipped =
        |event: &&Event| matches!(event, Event::Warned { code, .. } if code == "update-skipped");
    assert_eq!(io.events.iter().filter(skipped).count(), 2);
    assert_eq!(io.log.iter().filter(|it| it.loss.is_nan()).count(), 2);
    Tensors::parse(&files.model).expect("parses").expect_finite().expect("weights stay finite");
}

#[test]
fn class_weights_move_the_scores_and_unknown_classes_are_refused() {
    let plan = binary();
    let mut spec = spec();
    let mean = |spec: &TrainSpec| {
        let (files, _) = train(spec, &plan);
        let found = scores(spec, &plan, &files.model, &eval_batch(&plan));
        found.iter().map(|p| f64::from(*p)).sum::<f64>() / found.len() as f64
    };
    let plain = mean(&spec);
    let given = |class: &str| ClassWeights::Given(BTreeMap::from([(class.to_owned(), 20.0)]));
    spec.class_weights = given("yes");
    let heavy = mean(&spec);
    assert!(plain + 0.1 < heavy, "{plain} {heavy}");

    spec.class_weights = given("yess");
    let failure = BurnEngine.train(&spec, &plan, None, &mut Io::new(&plan)).expect_err("unknown");
    assert_eq!(failure.message, "`train.class_weights` names class `yess`: known are `yes`, `no`");
    spec.class_weights = ClassWeights::Balanced;
    let plan = regression();
    let failure =
        BurnEngine.train(&spec, &plan, None, &mut Io::new(&plan)).expect_err("no classes");
    assert_eq!(failure.code.as_str(), "class-weights-without-classes");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let plan = binary();
    let mut io = Io::new(&plan);
    io.train.n = 0;
    let failure = BurnEngine.train(&spec(), &plan, None, &mut io).expect_err("no rows");
    assert_eq!(failure.code.as_str(), "train-rows-missing");

    let mut stopping = spec();
    stopping.early_stopping = Some(EarlyStopping { patience: 1 });
    let mut io = Io::new(&plan);
    io.eval = None;
    let failure = BurnEngine.train(&stopping, &plan, None, &mut io).expect_err("no eval rows");
    assert_eq!(failure.code.as_str(), "eval-rows-missing");

    let mut elsewhere = spec();
    elsewhere.device = "cuda:7".to_owned();
    let failure =
        BurnEngine.train(&elsewhere, &plan, None, &mut Io::new(&plan)).expect_err("no device");
    assert_eq!(failure.message, "device `cuda:7` not found: this machine has `cpu`");

    let mut tokens = spec();
    tokens.model =
        ModelSpec::FtTransformer { width: 8, blocks: 1, heads: 2, expansion: 2, dropout: 0.0 };
    let pictures = as_pictures(binary());
    let failure =
        BurnEngine.train(&tokens, &pictures, None, &mut Io::new(&plan)).expect_err("no images");
    assert_eq!(failure.code.as_str(), "image-unread");
    assert!(failure.message.contains("`picture`"), "{failure}");
}

#[test]
fn a_checkpoint_of_another_run_or_with_other_tensors_is_refused() {
    let plan = binary();
    let mut io = Io::new(&plan);
    io.stop_at = Some(5);
    BurnEngine.train(&spec(), &plan, None, &mut io).expect("stops");
    let (files, _) = io.kept.pop().expect("kept");
    let resume = |spec: &TrainSpec, files: CheckpointFiles| {
        BurnEngine.train(spec, &plan, Some(files), &mut Io::new(&plan)).expect_err("refused")
    };

    let mut other = spec();
    other.learning_rate = 0.02;
    let failure = resume(&other, files.clone());
    assert_eq!(failure.code.as_str(), "resume-mismatch");
    assert!(failure.details[0].starts_with("spec: sha256:"), "{failure:?}");

    let mut reshaped = Writer::new();
    for (name, view) in Tensors::parse(&files.model).expect("parses").iter() {
        let mut shape = view.shape.clone();
        if name == "layers.0.weight" {
            shape.reverse();
        }
        reshaped.add(name, view.dtype, &shape, view.bytes.to_vec());
    }
    let failure = resume(&spec(), CheckpointFiles { model: reshaped.finish(), ..files.clone() });
    assert_eq!(failure.code.as_str(), "checkpoint-tensor-shape");
    let swapped = CheckpointFiles { optimizer: files.model.clone(), ..files };
    assert_eq!(resume(&spec(), swapped).code.as_str(), "checkpoint-tensor-missing");
}

#[test]
fn files_are_named_by_parameter_path() {
    let (files, _) = train(&spec(), &binary());
    let names = |bytes: &[u8]| {
        let file = Tensors::parse(bytes).expect("parses");
        file.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&files.model),
        [
            "embeddings.0",
            "layers.0.bias",
            "layers.0.weight",
            "layers.1.bias",
            "layers.1.weight",
            "layers.2.bias",
            "layers.2.weight",
        ]
    );
    assert!(names(&files.optimizer).contains(&"exp_avg_sq.layers.1.weight".to_owned()));
}
