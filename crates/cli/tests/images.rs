//! Images through the binary: IDX and folders from `init` to a promoted model, new pictures scored, bad ones refused.

use karat_testkit::{
    Sandbox,
    picture::{bars, idx_images, idx_labels, png},
};

const KARAT: &str = env!("CARGO_BIN_EXE_karat");
const N: u32 = 600;
const CLASSES: [&str; 3] = ["lying", "standing", "slanted"];

fn pictures() -> Vec<Vec<u8>> {
    (0..N).map(bars).collect()
}

fn labels() -> Vec<u8> {
    (0..N).map(|i| (i % 3) as u8).collect()
}

/// A project on IDX files, made by `karat init`, with settings that train in a moment.
fn idx() -> Sandbox {
    let sandbox = Sandbox::new(KARAT);
    sandbox.write("data/bars-images-idx3-ubyte", idx_images(8, 8, &pictures()));
    sandbox.write("data/bars-labels-idx1-ubyte", idx_labels(&labels()));
    let init = sandbox.karat("init . --name bars --data data --label label").expect_code(0);
    assert!(init.stdout.contains("multiclass"), "{}", init.stdout);
    quick(&sandbox);
    sandbox
}

/// A project on a folder of PNG files.
fn folder() -> Sandbox {
    let sandbox = Sandbox::new(KARAT);
    for (i, picture) in (0..N).zip(pictures()) {
        let class = CLASSES[i as usize % 3];
        sandbox.write(&format!("photos/{class}/{i:03}.png"), png(8, 8, 1, &picture));
    }
    let _ = sandbox.karat("init . --name bars --data photos --label label").expect_code(0);
    quick(&sandbox);
    sandbox
}

fn quick(sandbox: &Sandbox) {
    // For images alone `init` proposes a convolutional network.
    let small = "preset = \"cnn\"\nfilters = [8, 16]\nhidden = [16]\n#";
    sandbox.edit("karat.toml", "preset = \"cnn\"", small);
    sandbox.edit("karat.toml", "epochs = 30", "epochs = 10\nlearning_rate = 0.01");
}

#[test]
fn idx_goes_from_init_to_a_champion_that_scores_new_pictures() {
    let sandbox = idx();
    let schema = sandbox.read("schema/bars.toml");
    for fact in ["type = \"image\"", "size = [8, 8]", "channels = 1", "role = \"key\""] {
        assert!(
            schema.replace("\n    8,\n    8,\n", "8, 8").contains(fact),
            "no {fact} in\n{schema}"
        );
    }
    let check = sandbox.karat("check").expect_code(0);
    for fact in ["image: images of 8 × 8 grey", "600 of 8 × 8", "mean byte by channel"] {
        assert!(check.stdout.contains(fact), "no {fact} in\n{}", check.stdout);
    }
    let ran = sandbox.karat("run --out out").expect_code(0);
    assert!(ran.stdout.contains("bars@champion -> bars@1"), "{}", ran.stdout);
    let report = sandbox.read("out/report.md");
    assert!(report.contains("images of 8 × 8 grey, standardised by channel"), "{report}");

    // The model learned from IDX; the new pictures are PNG files, one in colour.
    for i in 0..9 {
        sandbox.write(&format!("new/{i}.png"), png(8, 8, 1, &bars(N + i)));
    }
    let colour: Vec<u8> = bars(N).iter().flat_map(|it| [*it; 3]).collect();
    sandbox.write("new/colour.png", png(8, 8, 3, &colour));
    let _ = sandbox.karat("score new --out scores.csv").expect_code(0);
    let text = sandbox.read("scores.csv");
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let at = |name: &str| header.iter().position(|it| *it == name).expect("a column");
    let rows: Vec<Vec<&str>> = lines.map(|it| it.split(',').collect()).collect();
    assert_eq!(rows.len(), 10);
    let right = rows
        .iter()
        .filter(|row| {
            let number = row[at("id")].rsplit('/').next().and_then(|it| it.strip_suffix(".png"));
            let number: u32 = number.expect("the file's name is its id").parse().unwrap_or(N);
            row[at("predicted")] == (number % 3).to_string()
        })
        .count();
    assert!(9 <= right, "{right} of 10 in\n{text}");
    let scores = |name: &str| {
        let row = rows.iter().find(|it| it[at("id")].ends_with(name)).expect("a row");
        row[at("score_0")].to_owned()
    };
    assert_eq!(scores("new/colour.png"), scores("new/0.png"), "grey in colour is grey");

    let again = sandbox.karat("run").expect_code(0);
    for step in ["snapshot", "check", "train", "score"] {
        let is_cached = |line: &str| line.contains(step) && line.contains("cached");
        assert!(again.stderr.lines().any(is_cached), "{step} was done again:\n{}", again.stderr);
    }
}

#[test]
fn a_folder_of_classes_trains_and_a_moved_picture_trains_again() {
    let sandbox = folder();
    let ran = sandbox.karat("run").expect_code(0);
    assert!(ran.stdout.contains("bars@champion -> bars@1"), "{}", ran.stdout);
    std::fs::rename(
        sandbox.path().join("photos/lying/000.png"),
        sandbox.path().join("photos/standing/000.png"),
    )
    .expect("a rename");
    let again = sandbox.karat("train").expect_code(0);
    let trained = again.stderr.lines().find(|it| it.contains("train ")).unwrap_or_default();
    assert!(!trained.contains("cached"), "{}", again.stderr);
}

#[test]
fn linear_reads_pixels_too() {
    let sandbox = idx();
    let text = sandbox.read("karat.toml");
    let text = text.replace("model = \"mlp\"", "model = \"linear\"").replace("hidden = [16]\n", "");
    sandbox.write("karat.toml", text);
    let _ = sandbox.karat("train").expect_code(0);
}

#[test]
fn corrupt_pictures_fail_the_check_and_are_left_out_where_the_project_allows_it() {
    let sandbox = folder();
    let whole = png(8, 8, 1, &bars(0));
    sandbox.write("photos/lying/cut.png", &whole[..whole.len() - 20]);
    let _ = sandbox.karat("run").expect_code(1).expect_error(
        "check-failed",
        &["schema.type: image", "1 of 601 rows", "photos/lying/cut.png", "it ends too early"],
    );
    let text = sandbox.read("karat.toml");
    sandbox.write(
        "karat.toml",
        text.replace("# quarantine_max = 0.0", "quarantine_max = 0.01 #")
            + "\n[check.\"schema.type\"]\nbound = 0.01\n",
    );
    let _ = sandbox.karat("run").expect_code(0);
    sandbox.write("new/1.png", &whole[..60]);
    sandbox.write("new/2.png", &whole);
    let _ = sandbox
        .karat("score new --out s.csv")
        .expect_code(1)
        .expect_error("quarantine-exceeded", &["1 of 2", "new/1.png", "it ends too early"]);
}

#[test]
fn different_sizes_are_refused_with_their_counts() {
    let sandbox = folder();
    sandbox.write("photos/lying/big.png", png(16, 9, 1, &[9; 144]));
    let facts = ["600 are 8 × 8", "1 are 16 × 9", "magick"];
    let _ = sandbox
        .karat("init other --name other --data photos --label label")
        .expect_code(2)
        .expect_error("image-sizes", &facts);
    let _ = sandbox.karat("train --set check.\"schema.type\".level=warn").expect_code(2);
    let _ = sandbox.karat("run").expect_code(1).expect_error("check-failed", &["16 × 9"]);
}

#[test]
fn a_class_with_one_picture_is_warned_of_and_an_empty_one_is_refused() {
    let sandbox = folder();
    sandbox.write("photos/round/one.png", png(8, 8, 1, &[77; 64]));
    let check = sandbox.karat("check");
    assert!(check.stdout.contains("round") || check.stderr.contains("round"), "{check:?}");
    std::fs::remove_file(sandbox.path().join("photos/round/one.png")).expect("there");
    let _ = sandbox
        .karat("check")
        .expect_code(2)
        .expect_error("class-folder-empty", &["photos/round", "remove the folder"]);
}

#[test]
fn what_is_wrong_with_idx_files_ends_with_code_2() {
    let sandbox = idx();
    sandbox.write("data/bars-labels-idx1-ubyte", idx_labels(&labels()[..599]));
    let _ = sandbox
        .karat("check")
        .expect_code(2)
        .expect_error("idx-count", &["600 images", "599 labels"]);
    sandbox.write("data/bars-labels-idx1-ubyte", idx_images(8, 8, &pictures()));
    let _ = sandbox.karat("check").expect_code(2).expect_error("idx-magic", &["00 00 08 01"]);
    sandbox.write("data/bars-labels-idx1-ubyte", idx_labels(&labels()));
    let whole = idx_images(8, 8, &pictures());
    sandbox.write("data/bars-images-idx3-ubyte", &whole[..whole.len() - 1]);
    let _ = sandbox.karat("check").expect_code(2).expect_error("file-truncated", &["bars-images"]);
    sandbox.write("data/bars-images-idx3-ubyte", idx_images(8, 8, &[]));
    sandbox.write("data/bars-labels-idx1-ubyte", idx_labels(&[]));
    let _ = sandbox.karat("check").expect_code(5).expect_error("dataset-empty", &["no rows"]);
}
