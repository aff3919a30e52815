//! Images from every source: the same rows, and bad ones as bad rows.

use std::{fs, sync::Arc};

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch};
use karat_core::{Batch, ColumnType, FeaturePlan, ImageShape, Role, SplitSpec};
use karat_testkit::picture::{bars, idx_images, idx_labels, png};

use parquet::file::properties::WriterProperties;

use super::{Asked, Desk, check, formats, name, predicate};

const IMAGES: &str = "in/train-images-idx3-ubyte";
const LABELS: &str = "in/train-labels-idx1-ubyte";
const N: u32 = 60;

fn pictures(n: u32) -> Vec<Vec<u8>> {
    (0..n).map(bars).collect()
}

fn labels(n: u32) -> Vec<u8> {
    (0..n).map(|i| (i % 3) as u8).collect()
}

/// A project that describes itself: the schema is what `infer` proposes.
fn described(mut desk: Desk) -> Desk {
    desk.schema = desk.infer(Some("label")).expect("a schema");
    desk.splits.insert(name("all"), SplitSpec::default());
    desk
}

fn idx() -> Desk {
    let desk = Desk::new("x int feature");
    desk.write(IMAGES, idx_images(8, 8, &pictures(N)));
    desk.write(LABELS, idx_labels(&labels(N)));
    desk
}

const CLASSES: [&str; 3] = ["lying", "standing", "slanted"];

fn folder() -> Desk {
    let desk = Desk::new("x int feature");
    for (i, picture) in (0..N).zip(pictures(N)) {
        let class = CLASSES[i as usize % 3];
        fs::create_dir_all(desk.path(&format!("in/{class}"))).expect("a folder");
        desk.write(&format!("in/{class}/{i:03}.png"), png(8, 8, 1, &picture));
    }
    desk
}

/// Every row's pixels and label, in an order that does not depend on the source.
fn contents(batch: &Batch) -> Vec<(Vec<u8>, u32)> {
    let rows = batch.pixels.chunks_exact(batch.n_pixels).zip(&batch.label);
    let mut rows: Vec<_> = rows.map(|(it, label)| (it.to_vec(), *label as u32)).collect();
    rows.sort();
    rows
}

fn expected() -> Vec<(Vec<u8>, u32)> {
    let mut rows: Vec<_> = (0..N).map(|i| (bars(i), i % 3)).collect();
    rows.sort();
    rows
}

#[test]
fn idx_becomes_rows_with_key_image_and_label() {
    let desk = described(idx());
    let roles: Vec<_> =
        desk.schema.columns.iter().map(|it| (it.name.as_str(), it.ty, it.role)).collect();
    assert_eq!(
        roles,
        [
            ("id", ColumnType::Text, Role::Key),
            ("image", ColumnType::Image, Role::Feature),
            ("label", ColumnType::Int, Role::Label),
        ]
    );
    let shape = desk.schema.image().and_then(|it| it.image()).expect("an image").shape;
    assert_eq!(shape, ImageShape { channels: 1, height: 8, width: 8 });

    let plan = desk.fit("all");
    assert!(plan.features.is_empty());
    let image = plan.image.as_ref().expect("an image plan");
    let bytes: Vec<f64> = pictures(N).concat().iter().map(|it| f64::from(*it) / 255.0).collect();
    let mean = bytes.iter().sum::<f64>() / bytes.len() as f64;
    let variance = bytes.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / bytes.len() as f64;
    assert!((image.mean[0] - mean).abs() < 1e-12 && (image.std[0] - variance.sqrt()).abs() < 1e-12);

    let batch = desk.encode("all", &plan);
    assert_eq!((batch.n_rows, batch.n_pixels, batch.n_numeric), (60, 64, 0));
    assert_eq!(contents(&batch), expected());
    assert!(desk.rows()[1].starts_with("in/train-images-idx3-ubyte#1|"), "{:?}", desk.rows()[1]);
}

#[test]
fn every_source_gives_the_same_rows() {
    let zipped = idx();
    for file in [IMAGES, LABELS] {
        let bytes = zipped.bytes(file);
        zipped.write(&format!("{file}.gz"), formats::gzip(&bytes));
        fs::remove_file(zipped.path(file)).expect("there");
    }
    let folder = described(folder());
    let parquet = |cells: Vec<Vec<u8>>| {
        let desk = Desk::new("x int feature");
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int64Array::from_iter_values(0..i64::from(N)))),
            ("image", Arc::new(BinaryArray::from_iter_values(cells))),
            ("label", Arc::new(Int64Array::from_iter_values((0..i64::from(N)).map(|i| i % 3)))),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        formats::parquet(&desk, "in/rows.parquet", &batch, WriterProperties::default());
        desk
    };
    let encoded = parquet(pictures(N).iter().map(|it| png(8, 8, 1, it)).collect());
    let mut raw = parquet(pictures(N));
    raw.schema = described(idx()).schema;
    raw.column("id").ty = ColumnType::Int;
    raw.column("image").raw = true;
    raw.splits.insert(name("all"), SplitSpec::default());

    let plan = folder.fit("all");
    assert_eq!(plan.label.classes(), ["lying", "slanted", "standing"]);
    let of_folder: Vec<Vec<u8>> =
        contents(&folder.encode("all", &plan)).into_iter().map(|it| it.0).collect();
    assert_eq!(of_folder, expected().into_iter().map(|it| it.0).collect::<Vec<_>>());
    for desk in [described(zipped), described(encoded), raw] {
        let plan = desk.fit("all");
        assert_eq!(contents(&desk.encode("all", &plan)), expected());
    }
}

#[test]
fn neither_threads_nor_a_scratch_file_change_a_byte() {
    let mut desk = described(folder());
    let plan = desk.fit("all");
    let batch = desk.encode("all", &plan);
    for threads in [1, 3, 8] {
        desk.threads = threads;
        assert_eq!(desk.fit("all"), plan);
        assert_eq!(desk.encode("all", &plan), batch);
    }
    let located = desk.locate();
    let files = desk.tables().verified.files(&located, crate::snapshot::Order::Snapshot);
    let files = files.expect("unchanged");
    let mut rows =
        crate::rows::encode(&located, &files, &name("all"), &plan, 2, &desk.path("scratch"), 500)
            .expect("rows");
    let mut spilled = Batch::default();
    rows.fetch(&(0..rows.n_rows()).collect::<Vec<_>>(), &mut spilled).expect("fetched");
    assert_eq!(spilled, batch);
}

/// Labels and keys of such files are their names, so a name is content.
#[test]
fn moving_a_picture_to_another_class_is_another_snapshot() {
    let desk = described(folder());
    let before = desk.locate().snapshot.digest();
    assert_eq!(desk.locate().snapshot.digest(), before);
    fs::rename(desk.path("in/lying/000.png"), desk.path("in/standing/000.png")).expect("moved");
    assert_ne!(desk.locate().snapshot.digest(), before);

    let desk = described(idx());
    let located = desk.locate();
    let mut other = labels(N);
    other.swap(0, 1);
    desk.write(LABELS, idx_labels(&other));
    assert_ne!(desk.locate().snapshot.digest(), located.snapshot.digest());
    let files = desk.tables().verified.files(&located, crate::snapshot::Order::Snapshot);
    check(files, "snapshot-changed", 3, &["train-images"]);
}

#[test]
fn what_is_wrong_with_an_idx_file_is_said() {
    let refused = |change: &dyn Fn(&Desk), code: &str, facts: &[&str]| {
        let desk = idx();
        change(&desk);
        check(desk.snapshot_with(&[]), code, 2, facts);
    };
    let images = || idx_images(8, 8, &pictures(N));
    refused(
        &|desk| desk.write(IMAGES, [&[0, 0, 9, 3], &images()[4..]].concat()),
        "idx-magic",
        &["of images", "00 00 09 03", "00 00 08 03"],
    );
    refused(
        &|desk| desk.write(LABELS, images()),
        "idx-magic",
        &["train-labels", "of labels", "00 00 08 03", "00 00 08 01"],
    );
    refused(&|desk| desk.write(IMAGES, &images()[..1000]), "file-truncated", &["train-images"]);
    refused(&|desk| desk.write(IMAGES, &images()[..9]), "file-truncated", &["train-images"]);
    refused(
        &|desk| desk.write(IMAGES, [images(), vec![1]].concat()),
        "file-unreadable",
        &["goes on"],
    );
    let short = &idx_labels(&labels(N))[..20];
    refused(&|desk| desk.write(LABELS, short), "file-truncated", &["train-labels"]);
    refused(
        &|desk| desk.write(LABELS, idx_labels(&labels(59))),
        "idx-count",
        &["60 images", "59 labels"],
    );
    // 4 billion images of 60,000 × 60,000: nothing of it is there, and no room is made for it.
    let huge =
        [&[0, 0, 8, 3][..], &[0xff; 4], &60_000_u32.to_be_bytes(), &60_000_u32.to_be_bytes()]
            .concat();
    refused(&|desk| desk.write(IMAGES, &huge), "file-unreadable", &["60000 × 60000"]);
    let many = [&[0, 0, 8, 3][..], &[0xff; 4], &[0, 0, 0, 8], &[0, 0, 0, 8]].concat();
    refused(
        &|desk| {
            desk.write(IMAGES, &many);
            fs::remove_file(desk.path(LABELS)).expect("there");
        },
        "file-truncated",
        &["train-images"],
    );
    let mut desk = idx();
    desk.files = vec![LABELS.to_owned()];
    fs::remove_file(desk.path(IMAGES)).expect("there");
    check(desk.snapshot_with(&[]), "idx-magic", 2, &["00 00 08 01"]);
}

#[test]
fn an_idx_file_without_rows_has_none() {
    let desk = idx();
    desk.write(IMAGES, idx_images(8, 8, &[]));
    desk.write(LABELS, idx_labels(&[]));
    let mut desk = desk;
    desk.schema = described(idx()).schema;
    desk.splits.insert(name("all"), SplitSpec::default());
    assert_eq!(desk.locate().snapshot.n_rows, 0);
    check(desk.try_fit("all"), "split-empty", 5, &[]);
}

#[test]
fn a_folder_without_images_beside_others_is_named() {
    let desk = folder();
    fs::create_dir(desk.path("in/round")).expect("a folder");
    check(desk.snapshot_with(&[]), "class-folder-empty", 2, &["in/round"]);
    // Pictures beside tables are no data.
    desk.write("in/rows.csv", "x\n1\n");
    assert_eq!(desk.locate().snapshot.n_rows, 1);
}

#[test]
fn different_sizes_are_counted_and_refused() {
    let desk = described(folder());
    desk.write("in/lying/big.png", png(9, 7, 1, &[1; 63]));
    check(desk.infer(Some("label")), "image-sizes", 2, &["60 are 8 × 8", "1 are 9 × 7"]);
    check(desk.try_fit("all"), "image-sizes", 2, &["60 are 8 × 8", "1 are 9 × 7"]);
    let profile = desk.measure();
    let column = profile.columns.iter().find(|it| it.name == "image").expect("the images");
    assert_eq!(column.wrong_type.n, 1);
    assert_eq!(column.wrong_type.examples[0].file, "in/lying/big.png");
    assert!(column.wrong_type.examples[0].value.contains("9 × 7"), "{:?}", column.wrong_type);
    let image = column.image.as_ref().expect("an image profile");
    assert_eq!(image.sizes, [("8 × 8".to_owned(), 60), ("9 × 7".to_owned(), 1)]);

    let none = Desk::new("x int feature");
    none.write("in/a.png", "no image");
    check(none.infer(None), "images-unreadable", 2, &["neither PNG nor JPEG"]);
}

#[test]
fn images_that_cannot_be_read_are_counted_and_left_out_of_training() {
    let desk = described(folder());
    let whole = png(8, 8, 1, &bars(0));
    desk.write("in/lying/cut.png", &whole[..whole.len() - 20]);
    desk.write("in/slanted/empty.png", "");
    let profile = desk.measure();
    let column = profile.columns.iter().find(|it| it.name == "image").expect("the images");
    assert_eq!((column.wrong_type.n, column.n_missing), (2, 0));
    let mut said: Vec<String> =
        column.wrong_type.examples.iter().map(|it| format!("{}: {}", it.file, it.value)).collect();
    said.sort();
    assert_eq!(said, ["in/lying/cut.png: it ends too early", "in/slanted/empty.png: it is empty"]);
    let plan = desk.fit("all");
    assert_eq!(contents(&desk.encode("all", &plan)), {
        let of_folder = described(folder());
        let plan = of_folder.fit("all");
        contents(&of_folder.encode("all", &plan))
    });
}

/// The mean byte of every image: a score that is easily checked.
fn brightness(batch: &Batch) -> Vec<f32> {
    let mean = |it: &[u8]| it.iter().map(|it| f32::from(*it)).sum::<f32>() / it.len() as f32;
    batch.pixels.chunks_exact(batch.n_pixels).map(mean).collect()
}

fn binary(mut desk: Desk) -> (Desk, FeaturePlan) {
    desk.splits.insert(name("two"), predicate("label < 2"));
    let plan = desk.fit("two");
    (desk, plan)
}

#[test]
fn predictions_carry_ids_and_bad_images_go_to_quarantine() {
    let (desk, plan) = binary(described(idx()));
    let mut asked = Asked::into("scores.csv");
    asked.split = Some("two");
    let summary =
        desk.try_score(&plan, &asked, &mut |batch| Ok(brightness(batch))).expect("scored");
    assert_eq!((summary.n_rows, summary.n_labeled), (40, 40));
    let text = desk.text("scores.csv");
    assert_eq!(text.lines().next(), Some("id,label,score"));
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let i: u32 = fields[0].rsplit('#').next().and_then(|it| it.parse().ok()).expect("a number");
        let score: f32 = fields[2].parse().expect("a score");
        let expected = bars(i).iter().map(|it| f32::from(*it)).sum::<f32>() / 64.0;
        assert!((score - expected).abs() < 1e-3 && fields[1] == (i % 3).to_string(), "{line}");
    }

    // A model of one source reads another: new pictures in a folder, two of them bad.
    let mut new = Desk::new("x int feature");
    new.schema = desk.schema.clone();
    new.write("in/1.png", png(8, 8, 1, &bars(1)));
    new.write("in/2.png", &png(8, 8, 1, &bars(2))[..50]);
    new.write("in/3.png", png(8, 9, 1, &[0; 72]));
    new.write("in/4.png", png(8, 8, 3, &[10; 192]));
    let mut asked = Asked::into("new.csv");
    asked.quarantine_max = 0.5;
    let summary = new.try_score(&plan, &asked, &mut |batch| Ok(brightness(batch))).expect("scored");
    assert_eq!((summary.n_rows, summary.n_quarantined), (2, 2));
    let text = new.text("new.csv");
    assert!(text.contains("in/1.png,,") && text.contains("in/4.png,,10"), "{text}");
    let quarantine = new.text("quarantine.jsonl");
    for fact in ["in/2.png", "it ends too early", "in/3.png", "8 × 9, must be 8 × 8"] {
        assert!(quarantine.contains(fact), "no `{fact}` in {quarantine}");
    }
    asked.quarantine_max = 0.4;
    let result = new.try_score(&plan, &asked, &mut |batch| Ok(brightness(batch)));
    check(result, "quarantine-exceeded", 1, &["2 of 4", "in/2.png"]);
}

#[test]
fn a_model_of_another_size_is_refused() {
    let (mut desk, plan) = binary(described(idx()));
    desk.column("image").size = Some([8, 9]);
    let result = desk.try_score(&plan, &Asked::into("s.csv"), &mut |batch| Ok(brightness(batch)));
    check(result, "model-schema-mismatch", 2, &["8 × 8 grey in the model, 8 × 9 grey"]);
}

#[test]
fn images_are_measured_as_wholes_and_by_brightness() {
    let desk = described(idx());
    let mut twice = pictures(N);
    twice[5] = bars(2);
    desk.write(IMAGES, idx_images(8, 8, &twice));
    let profile = desk.measure();
    let column = profile.columns.iter().find(|it| it.name == "image").expect("the images");
    assert_eq!((column.n_distinct, column.n_missing), (59, 0));
    assert_eq!(column.top[0].1, 2, "one picture is there twice");
    let mean = twice.concat().iter().map(|it| f64::from(*it)).sum::<f64>() / (64.0 * 60.0);
    let image = column.image.as_ref().expect("an image profile");
    assert!((image.mean[0] - mean).abs() < 1e-9);
    assert!((column.mean.expect("a mean") - mean).abs() < 1e-9, "all images are of one size");
    let association = profile.associations.iter().find(|it| it.column == "image");
    let association = association.expect("brightness is held against the label");
    assert_eq!(association.n_rows, 60);
}
