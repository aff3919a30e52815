//! Changes under review that want to be merged, or promoted, without being good: each in a repository of its own. None is
//! promoted, and each is told what it did.
//!
//! What a change must not be able to do: docs/ci.md.

use std::{fs, os::unix::fs::symlink};

use karat_testkit::{Ran, Sandbox};
use serde_json::Value;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

/// What GitHub sets for a pull request into `main`.
const PULL_REQUEST: [(&str, &str); 4] = [
    ("CI", "true"),
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_EVENT_NAME", "pull_request"),
    ("GITHUB_BASE_REF", "main"),
];

/// Trains a model that is worse than the champion by any measure.
fn made_worse(sandbox: &Sandbox) {
    sandbox.edit("karat.toml", "learning_rate = 0.01", "learning_rate = 0.0000001");
    sandbox.edit("karat.toml", "epochs = 3", "epochs = 1");
}

/// Commits the change and lets it be judged as GitHub would.
#[track_caller]
fn judged(sandbox: &Sandbox) -> Ran {
    let _ = sandbox.commit("the change");
    let ran = sandbox.karat_with("ci --out out", &PULL_REQUEST);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    assert_eq!(sandbox.alias("churn@champion"), Some(1), "a change under review moves nothing");
    ran
}

/// The change was judged by the base's words, did not pass, and was told which edit did not count.
#[track_caller]
fn expect_ignored(sandbox: &Sandbox, rule: &str, subject: &str) {
    let ran = judged(sandbox).expect_code(1);
    let line = format!("{rule} {subject}: ");
    let told = ran.stderr.lines().find(|it| it.contains(&line)).unwrap_or_default();
    assert!(told.contains("counts once it is merged"), "no `{line}` in\n{}", ran.stderr);
    assert!(ran.stdout.contains("gate `release`: fail"), "{}", ran.stdout);
    assert!(ran.stdout.contains("against churn@1"), "{}", ran.stdout);
    let comment = sandbox.read("out/comment.md");
    assert!(comment.contains("counts once it is merged"), "reviewers read it too:\n{comment}");
}

#[test]
fn a_change_does_not_edit_the_policy_that_judges_it() {
    let sandbox = Sandbox::reviewed(KARAT);
    made_worse(&sandbox);
    sandbox.write("gate.toml", "version = 1\n[gate.release]\nbaseline = \"none\"\n[[gate.release.rule]]\nname = \"easy\"\nmetric = \"auc\"\nmin = 0.0\n");
    expect_ignored(&sandbox, "base.policy", "gate.toml");
    sandbox.write("gate.toml", "version = = nonsense\n");
    expect_ignored(&sandbox, "base.policy", "gate.toml");
    let _ = sandbox
        .karat_with("ci --set gate.release.baseline=none", &PULL_REQUEST)
        .expect_code(2)
        .expect_error("set-invalid", &["gate.release.baseline=none", "base branch"]);
}

#[test]
fn a_change_does_not_waive_its_own_rules() {
    let sandbox = Sandbox::reviewed(KARAT);
    made_worse(&sandbox);
    let mut policy = sandbox.read("gate.toml").replace("absolute = 0.01", "absolute = 0.9");
    for rule in ["good enough", "not worse"] {
        policy.push_str(&format!("\n[[gate.release.waiver]]\nrule = \"{rule}\"\nuntil = \"2099-12-31\"\nby = \"me\"\nreason = \"trust me\"\n"));
    }
    sandbox.write("gate.toml", policy);
    expect_ignored(&sandbox, "base.policy", "gate.toml");
}

#[test]
fn a_change_does_not_lose_the_champion_by_another_name() {
    let sandbox = Sandbox::reviewed(KARAT);
    made_worse(&sandbox);
    sandbox.edit("karat.toml", "dataset = \"churn\"", "dataset = \"churn\"\nname = \"fresh\"");
    expect_ignored(&sandbox, "base.project", "karat.toml");
}

#[test]
fn a_change_does_not_choose_the_rows_that_judge_it() {
    let sandbox = Sandbox::reviewed(KARAT);
    made_worse(&sandbox);
    sandbox.edit("karat.toml", "split = \"holdout\"", "split = \"train\"");
    sandbox.edit("karat.toml", "holdout = { hash = [80, 100] }", "holdout = { hash = [99, 100] }");
    expect_ignored(&sandbox, "base.project", "karat.toml");
}

#[test]
fn a_change_does_not_swap_the_evaluation_rows() {
    let sandbox = Sandbox::reviewed(KARAT);
    let easy: String = sandbox
        .read("churn.csv")
        .lines()
        .enumerate()
        .map(|(at, line)| match line.rsplit_once(',') {
            Some((rest, _)) if 0 < at => {
                format!("{rest},{}\n", if rest.contains("basic") { "yes" } else { "no" })
            }
            _ => format!("{line}\n"),
        })
        .collect();
    sandbox.write("churn.csv", &easy);
    let _ = judged(&sandbox)
        .expect_code(1)
        .expect_error("pointer-stale", &["snapshots/churn.toml", "karat snapshot churn"]);
    let _ = sandbox.karat("snapshot").expect_code(0);
    let _ = judged(&sandbox)
        .expect_code(1)
        .expect_error("evaluation-changed", &["churn.csv", "nothing was trained"]);
    assert!(sandbox.read("out/comment.md").contains("base.data"), "reviewers are told");

    // Removing the rows is no way around it.
    sandbox.write("easy.csv", easy);
    sandbox.edit("karat.toml", "files = \"churn.csv\"", "files = \"easy.csv\"");
    let _ = sandbox.git(&["checkout", "--quiet", "main", "--", "churn.csv"]);
    let _ = sandbox.karat("snapshot").expect_code(0);
    let _ = judged(&sandbox).expect_code(1).expect_error("evaluation-changed", &["churn.csv"]);
    // Adding some is allowed: both models are judged on all of them.
    sandbox.edit("karat.toml", "files = \"easy.csv\"", "files = [\"churn.csv\", \"more.csv\"]");
    let header = "id,joined,region,plan,age,spend,churned\n".to_owned();
    sandbox.write("more.csv", header + &karat_testkit::fixture::churn_rows(3000, 3200).concat());
    let _ = sandbox.git(&["rm", "--quiet", "--cached", "--force", "easy.csv"]);
    fs::remove_file(sandbox.path().join("easy.csv")).expect("it is there");
    let _ = sandbox.karat("snapshot").expect_code(0);
    let grown = judged(&sandbox);
    assert!([0, 1, 4].contains(&grown.code), "{grown:?}");
    let told = sandbox.karat_with("ci -v", &PULL_REQUEST).stderr;
    assert!(told.contains("1 added with 200 rows"), "{told}");
}

#[test]
fn a_leaked_label_is_seen_and_its_check_cannot_be_switched_off() {
    let sandbox = Sandbox::reviewed(KARAT);
    let leaked: String = sandbox
        .read("churn.csv")
        .lines()
        .enumerate()
        .map(|(at, line)| match at {
            0 => format!("{line},refund\n"),
            _ => format!("{line},{}\n", if line.ends_with("yes") { 90 + at % 7 } else { at % 7 }),
        })
        .collect();
    sandbox.write("churn.csv", leaked);
    let schema = sandbox.read("schema/churn.toml");
    sandbox.write(
        "schema/churn.toml",
        format!("{schema}\n[column.refund]\ntype = \"int\"\nrole = \"feature\"\n"),
    );
    let project = sandbox.read("karat.toml");
    sandbox.write("karat.toml", format!("{project}\n[check.\"leak.target\"]\nlevel = \"off\"\n"));
    let _ = sandbox.karat("snapshot").expect_code(0);
    let _ = judged(&sandbox).expect_code(1).expect_error("evaluation-changed", &[]);
    // Even where the base branch's workflow lets data change.
    let ran = sandbox.karat_with("ci --data-may-change", &PULL_REQUEST).expect_code(1);
    let ran = ran.expect_error("check-failed", &["leak.target", "refund", "nothing was trained"]);
    assert!(ran.stderr.contains("base.project karat.toml: "), "{}", ran.stderr);
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
}

#[test]
fn a_change_without_rows_does_not_pass() {
    let sandbox = Sandbox::reviewed(KARAT);
    let text = sandbox.read("churn.csv");
    let header = text.lines().next().expect("a header");
    sandbox.write("churn.csv", format!("{header}\n"));
    let _ = judged(&sandbox).expect_code(5).expect_error("dataset-empty", &["churn"]);
    let empty = "version = 1\n";
    sandbox.write("churn.csv", &text);
    sandbox.write("gate.toml", empty);
    let ran = judged(&sandbox);
    assert!(ran.stderr.contains("base.policy gate.toml: "), "an emptied gate is the base's");
    assert!(ran.stdout.contains("gate `release`"), "{}", ran.stdout);
}

#[test]
fn state_in_a_change_is_refused() {
    // Whatever the state says: a champion of its own, cached steps, a ledger that starts anew.
    let sandbox = Sandbox::reviewed(KARAT);
    let _ = sandbox.git(&["add", "--force", ".karat"]);
    let _ = judged(&sandbox)
        .expect_code(1)
        .expect_error("store-in-change", &[".karat", "ledger", "nothing was judged"]);
}

#[test]
fn links_in_a_change_lead_nowhere() {
    let sandbox = Sandbox::reviewed(KARAT);
    let path = |name: &str| sandbox.path().join(name);
    fs::rename(path("gate.toml"), path("lax.toml")).expect("renames");
    symlink("lax.toml", path("gate.toml")).expect("links");
    let refused = |fact: &str| {
        let _ = judged(&sandbox).expect_code(1).expect_error("link-in-change", &[fact]);
    };
    refused("gate.toml");
    let _ = sandbox.git(&["reset", "--quiet", "--hard", "main"]);

    symlink("/etc/passwd", path("more.csv")).expect("links");
    refused("/etc/passwd");
    let _ = sandbox.git(&["reset", "--quiet", "--hard", "main"]);

    sandbox.write("elsewhere/x", "");
    fs::create_dir(path("deep")).expect("makes a folder");
    symlink("../../outside.csv", path("deep/a.csv")).expect("links");
    refused("../../outside.csv");
    let _ = sandbox.git(&["reset", "--quiet", "--hard", "main"]);

    symlink("../schema/churn.toml", path("snapshots/other.toml")).expect("links");
    refused("snapshots/other.toml");
    let _ = sandbox.git(&["reset", "--quiet", "--hard", "main"]);

    // A link inside the repository, to what judges nothing, is a file like any other.
    symlink("churn.csv", path("same.csv")).expect("links");
    let ran = judged(&sandbox);
    assert!(!ran.stderr.contains("link-in-change"), "{}", ran.stderr);
}

#[test]
fn a_change_reads_no_file_outside_its_repository() {
    let sandbox = Sandbox::reviewed(KARAT);
    for outside in ["/etc/passwd", "../*.csv"] {
        sandbox.edit("karat.toml", "files = \"churn.csv\"", &format!("files = \"{outside}\""));
        let _ = judged(&sandbox).expect_code(1).expect_error("path-outside", &[outside]);
        let _ = sandbox.git(&["checkout", "--quiet", "main", "--", "karat.toml"]);
    }
}

#[test]
fn names_from_outside_are_neither_options_nor_commands() {
    let sandbox = Sandbox::reviewed(KARAT);
    let _ = sandbox.commit("the change");
    let with = |base: &str| {
        let variables = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_EVENT_NAME", "pull_request"),
            ("GITHUB_BASE_REF", base),
            ("GITHUB_HEAD_REF", "$(touch pwned)"),
            ("GITHUB_ACTOR", "::error::`touch pwned`"),
        ];
        let ran = sandbox.karat_with("ci", &variables);
        assert!(!sandbox.path().join("pwned").exists(), "`{base}` was run");
        ran
    };
    for option in
        ["--upload-pack=touch pwned", "--output=pwned", "-c", "main..change", "main:gate.toml"]
    {
        let _ = with(option).expect_code(2).expect_error("ref-invalid", &[]);
    }
    for name in ["$(touch pwned)", "`touch_pwned`", "${{github.token}}"] {
        let ran = with(name);
        assert_eq!(ran.code, 2, "{ran:?}");
    }
    let _ = sandbox
        .karat("ci --base=--upload-pack=pwned")
        .expect_code(2)
        .expect_error("base-unreachable", &[]);
    assert!(!sandbox.path().join("pwned").exists());
}

#[test]
fn values_in_the_data_give_github_no_commands() {
    let sandbox = Sandbox::reviewed(KARAT);
    let text = sandbox.read("churn.csv").replacen(
        ",north,",
        ",\"north\n::error::forged\n::set-output name=verdict::pass\n::add-mask::a\",",
        400,
    );
    sandbox.write("churn.csv", text);
    let _ = sandbox.karat("snapshot").expect_code(0);
    let _ = sandbox.commit("the change");
    let mut variables = PULL_REQUEST.to_vec();
    let summary = sandbox.path().join("summary.log").display().to_string();
    let output = sandbox.path().join("output.log").display().to_string();
    variables.extend([("GITHUB_STEP_SUMMARY", summary.as_str()), ("GITHUB_OUTPUT", &output)]);
    let ran = sandbox.karat_with("ci --data-may-change -v --out out", &variables);
    let mut is_mute: Option<String> = None;
    let commands = ["::error", "::warning", "::notice", "::stop-commands"];
    for line in ran.stderr.lines().chain(ran.stdout.lines()) {
        if let Some(word) = line.strip_prefix("::stop-commands::") {
            is_mute = Some(word.to_owned());
        } else if is_mute.as_ref().is_some_and(|it| line == format!("::{it}::")) {
            is_mute = None;
        } else if line.starts_with("::") && is_mute.is_none() {
            assert!(commands.iter().any(|it| line.starts_with(it)), "{line}");
            assert!(!line.starts_with("::error::forged"), "{line}");
        }
    }
    // Not even where nobody asked GitHub to be deaf.
    let plain = sandbox.karat("run --dry-run -v");
    for line in plain.stderr.lines().chain(plain.stdout.lines()) {
        assert!(!line.trim_start().starts_with("::"), "{line}");
    }
    assert!(plain.stdout.contains("::error::forged"), "the value is shown:\n{}", plain.stdout);
    for line in sandbox.read("output.log").lines() {
        assert!(!line.starts_with("::") && !line.starts_with("verdict=pass"), "{line}");
    }
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
}

#[test]
fn a_change_is_not_promoted_whatever_its_workflow_says() {
    let sandbox = Sandbox::reviewed(KARAT);
    sandbox.edit("karat.toml", "seed = 7", "seed = 8");
    let _ = sandbox.commit("the change");
    let _ = sandbox
        .karat_with("ci --promote", &PULL_REQUEST)
        .expect_code(2)
        .expect_error("promotion-refused", &["not merged", "nothing was promoted"]);
    let branch =
        [("GITLAB_CI", "true"), ("CI_COMMIT_BRANCH", "change"), ("CI_DEFAULT_BRANCH", "main")];
    let _ = sandbox
        .karat_with("ci --promote", &branch)
        .expect_code(2)
        .expect_error("promotion-refused", &["`change`"]);
    let _ = sandbox.karat("ci --promote").expect_code(2).expect_error("promotion-refused", &[]);
    let mut target = PULL_REQUEST;
    target[2].1 = "pull_request_target";
    let _ = sandbox
        .karat_with("ci", &target)
        .expect_code(2)
        .expect_error("event-unsafe", &["pull_request_target", "secrets"]);
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
}

#[test]
fn a_change_does_not_bring_its_first_policy_along() {
    let sandbox = Sandbox::reviewed(KARAT);
    let _ = sandbox.git(&["checkout", "--quiet", "main"]);
    let _ = sandbox.git(&["rm", "--quiet", "--cached", "gate.toml"]);
    let _ = sandbox.git(&["commit", "--quiet", "--message", "no policy yet"]);
    let _ = sandbox.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    let _ = judged(&sandbox)
        .expect_code(5)
        .expect_error("policy-absent", &["origin/main", "gate.toml"]);
}

/// A run that left `out/` as an artifact, and the commit it is about.
fn artifact() -> (Sandbox, String) {
    let sandbox = Sandbox::reviewed(KARAT);
    made_worse(&sandbox);
    let commit = sandbox.commit("the change");
    let _ = sandbox.karat_with("ci --out out", &PULL_REQUEST).expect_code(1);
    let _ = sandbox.git(&["checkout", "--quiet", "main"]);
    (sandbox, commit)
}

/// Writes a verdict as its author would have liked it, with everything that names its bytes.
fn forge(sandbox: &Sandbox, change: impl Fn(&mut Value)) {
    let mut verdict: Value = serde_json::from_str(&sandbox.read("out/verdict.json")).expect("JSON");
    change(&mut verdict);
    let text = verdict.to_string();
    let mut made: Value = serde_json::from_str(&sandbox.read("out/ci.json")).expect("JSON");
    made["verdict"] = Value::String(karat_core::Digest::of(text.as_bytes()).to_string());
    sandbox.write("out/verdict.json", text);
    sandbox.write("out/ci.json", made.to_string());
}

#[test]
fn a_verdict_is_worked_out_again_and_a_forged_one_is_told() {
    let (sandbox, commit) = artifact();
    let line = format!("judge --artifact out --commit {commit} --out seen");
    let honest = sandbox.karat(&line).expect_code(1);
    assert!(honest.stdout.contains("gate `release`: fail"), "{}", honest.stdout);
    assert!(sandbox.read("seen/comment.md").starts_with("<!-- karat:churn:release -->"));

    forge(&sandbox, |verdict| {
        verdict["outcome"] = "pass".into();
        for finding in verdict["findings"].as_array_mut().expect("a list") {
            finding["outcome"] = "pass".into();
        }
    });
    let _ = sandbox.karat(&line).expect_code(1).expect_error(
        "verdict-forged",
        &["the artifact's verdict says pass, its predictions say fail", "not worse"],
    );
    // A report beside it says what it likes: nobody reads it.
    sandbox.write("out/comment.md", "<!-- karat:churn:release -->\n# pass\n");
    let _ = sandbox.karat(&line).expect_code(1);
}

#[test]
fn an_old_verdict_is_told_from_this_ones() {
    let (sandbox, old) = artifact();
    let _ = sandbox.git(&["checkout", "--quiet", "change"]);
    let header = "id,joined,region,plan,age,spend,churned\n".to_owned();
    sandbox.write("more.csv", header + &karat_testkit::fixture::churn_rows(3000, 3200).concat());
    sandbox.edit("karat.toml", "files = \"churn.csv\"", "files = [\"churn.csv\", \"more.csv\"]");
    let _ = sandbox.karat("snapshot").expect_code(0);
    let new = sandbox.commit("more rows");
    let _ = sandbox.git(&["checkout", "--quiet", "main"]);
    let line = format!("judge --artifact out --commit {new}");
    let _ = sandbox
        .karat(&line)
        .expect_code(1)
        .expect_error("verdict-replayed", &[&old[..8], &new[..8]]);
    sandbox.edit("out/ci.json", &old, &new);
    let _ = sandbox.karat(&line).expect_code(1).expect_error("verdict-replayed", &["snapshot"]);
    // Under a policy that has changed since, it is no verdict either.
    let policy = sandbox.read("gate.toml");
    sandbox.write("gate.toml", policy.replace("absolute = 0.01", "absolute = 0.02"));
    let _ = sandbox.karat(&line).expect_code(1).expect_error("verdict-outdated", &["policy"]);
}

#[test]
fn an_artifact_is_plain_files_few_and_small() {
    let (sandbox, commit) = artifact();
    let path = |name: &str| sandbox.path().join("out").join(name);
    let line = format!("judge --artifact out --commit {commit}");
    let refused = |fact: &str| {
        let ran = sandbox.karat(&line).expect_code(1);
        let _ = ran.expect_error("artifact-refused", &[fact]);
    };
    symlink("/etc/passwd", path("metrics.parquet")).expect("links");
    refused("`metrics.parquet` is not a plain file");
    fs::remove_file(path("metrics.parquet")).expect("removes");

    fs::create_dir(path("..\u{1b}[31m")).expect("makes a folder");
    refused(r"`..\u{1b}[31m` is not a plain file");
    fs::remove_dir(path("..\u{1b}[31m")).expect("removes");

    let sized = |name: &str, n_bytes: u64| {
        fs::File::create(path(name)).and_then(|it| it.set_len(n_bytes)).expect("a sparse file");
    };
    sized("huge.bin", 3 << 30);
    refused("bytes");
    fs::remove_file(path("huge.bin")).expect("removes");
    let good = sandbox.bytes("out/verdict.json");
    sized("verdict.json", 17 << 20);
    refused("`verdict.json` has 17825792 bytes");
    sandbox.write("out/verdict.json", "[[[[");
    refused("no verdict that this build reads");
    sandbox.write("out/verdict.json", good);

    for n in 0..65 {
        sandbox.write(&format!("out/{n}.txt"), "");
    }
    refused("more than 64 files");
    for n in 0..65 {
        fs::remove_file(path(&format!("{n}.txt"))).expect("removes");
    }

    let predictions = sandbox.bytes("out/predictions.parquet");
    sandbox.write("out/predictions.parquet", &predictions[..predictions.len() / 2]);
    refused("`predictions.parquet` has digest");
    // With a digest to match, the parser refuses.
    let cut = karat_core::Digest::of(&predictions[..predictions.len() / 2]).to_string();
    forge(&sandbox, |verdict| verdict["judged"]["predictions"] = cut.clone().into());
    refused("predictions cannot be read");
    sandbox.write("out/predictions.parquet", predictions);
    fs::remove_file(path("ci.json")).expect("removes");
    refused("ci.json");
}

/// A store comes from a cache that others could write to; a name in it becomes no path.
#[test]
fn an_output_with_a_path_for_a_name_is_not_written() {
    use karat_core::Timestamp;
    use karat_store::{Access, RunEnd, RunStart, RunState, Store};

    let sandbox = Sandbox::reviewed(KARAT);
    let store = Store::open(&sandbox.path().join(".karat"), Access::ReadWrite).expect("opens");
    let runs = store.runs(50).expect("reads");
    let train = runs.iter().find(|it| it.step == karat_core::Step::Train).expect("was trained");
    let start = RunStart {
        step: train.step,
        key: train.key,
        subject: train.subject.clone(),
        spec: train.spec.clone(),
        inputs: train.inputs.clone(),
        seed: train.seed,
        device: train.device.clone(),
        tool: train.tool.clone(),
        code: train.code.clone(),
    };
    let mut outputs = train.outputs.clone();
    outputs.insert("../planted".to_owned(), *outputs.values().next().expect("has outputs"));
    let handle = store.begin_run(&start, Timestamp(i64::MAX / 4)).expect("begins");
    let end = RunEnd {
        state: RunState::Complete,
        outputs,
        metrics: train.metrics.clone(),
        seconds: 1.0,
        error: None,
    };
    store.finish_run(&handle, &end, Timestamp(i64::MAX / 4)).expect("ends");
    drop(store);
    let ran = judged(&sandbox);
    assert!(ran.stderr.contains("output `../planted` is no plain file name"), "{}", ran.stderr);
    assert!(!sandbox.path().join("planted").exists());
    let code = "output-name";
    assert!(ran.stderr.contains("reports-not-written"), "{code} is a warning: the verdict stands");
}
