//! `karat ci` where each CI system would run it: the base branch, what is written and for whom, and what a checkout can
//! lack.

use std::{fs, os::unix::fs::PermissionsExt};

use karat_testkit::Sandbox;
use serde_json::Value;

const KARAT: &str = env!("CARGO_BIN_EXE_karat");

const GITHUB: [(&str, &str); 7] = [
    ("CI", "true"),
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_EVENT_NAME", "pull_request"),
    ("GITHUB_BASE_REF", "main"),
    ("GITHUB_SERVER_URL", "https://git.example"),
    ("GITHUB_REPOSITORY", "owner/name"),
    ("GITHUB_RUN_ID", "42"),
];
const GITLAB: [(&str, &str); 4] = [
    ("GITLAB_CI", "true"),
    ("CI_MERGE_REQUEST_IID", "3"),
    ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
    ("CI_JOB_URL", "https://lab.example/-/jobs/9"),
];
const JENKINS: [(&str, &str); 3] =
    [("JENKINS_URL", "http://ci.example/"), ("CHANGE_ID", "3"), ("CHANGE_TARGET", "main")];

/// A change that trains another seed: as good as the champion, or too close to tell.
fn change(sandbox: &Sandbox) -> String {
    sandbox.edit("karat.toml", "seed = 7", "seed = 8");
    sandbox.commit("another seed")
}

#[test]
fn every_system_gets_the_same_verdict_and_every_file() {
    let sandbox = Sandbox::reviewed(KARAT);
    let commit = change(&sandbox);
    let path = |name: &str| sandbox.path().join(name).display().to_string();
    let (summary, output) = (path("summary.log"), path("output.log"));
    let mut github = GITHUB.to_vec();
    github.extend([("GITHUB_STEP_SUMMARY", summary.as_str()), ("GITHUB_OUTPUT", &output)]);
    sandbox.write("summary.log", "of a step before\n");

    let first = sandbox.karat_with("ci --out out", &github);
    assert!([0, 1, 4].contains(&first.code), "{first:?}");
    for told in [
        "ci       GitHub Actions, a change for `main`",
        "base     origin/main at ",
        "store    restored: 1 versions, churn@champion -> churn@1",
    ] {
        assert!(first.stdout.contains(told), "no `{told}` in\n{}", first.stdout);
    }
    for file in [
        "report.html",
        "report.md",
        "report.json",
        "junit.xml",
        "metrics.txt",
        "metrics.json",
        "verdict.json",
        "summary.md",
        "comment.md",
        "code-quality.json",
        "ci.json",
        "predictions.parquet",
        "baseline-predictions.parquet",
    ] {
        assert!(!sandbox.bytes(&format!("out/{file}")).is_empty(), "{file} is empty");
    }
    let json = |name: &str| -> Value { serde_json::from_str(&sandbox.read(name)).expect("JSON") };
    assert_eq!(json("out/ci.json")["commit"], commit.as_str());
    assert!(sandbox.read("out/comment.md").starts_with("<!-- karat:churn:release -->\n"));
    let page = sandbox.read("summary.log");
    assert!(page.starts_with("of a step before\n# "), "appended:\n{page}");
    let outputs = sandbox.read("output.log");
    let word =
        outputs.strip_prefix("verdict<<").and_then(|it| it.split('\n').next()).expect(&outputs);
    let of_verdict = json("out/verdict.json")["outcome"].as_str().expect("a word").to_owned();
    assert!(outputs.starts_with(&format!("verdict<<{word}\n{of_verdict}\n{word}\n")), "{outputs}");
    assert!(32 <= word.len(), "nobody can foresee `{word}`");

    for system in [&GITLAB[..], &JENKINS] {
        let again = sandbox.karat_with("ci --out out", system);
        assert_eq!(again.code, first.code, "{again:?}");
        assert!(again.stderr.contains("cached"), "{}", again.stderr);
        assert!(!again.stderr.contains("::stop-commands"), "{}", again.stderr);
    }
    let shell = sandbox.karat("ci --base main");
    assert_eq!(shell.code, first.code, "{shell:?}");
    assert!(shell.stdout.contains("a shell"), "{}", shell.stdout);
    assert_eq!(sandbox.alias("churn@champion"), Some(1), "nothing moved");
    assert_eq!(sandbox.git(&["status", "--porcelain"]), "", "the checkout is as it was");
}

#[test]
fn an_empty_store_is_told_and_what_cannot_be_written_changes_no_verdict() {
    let sandbox = Sandbox::reviewed(KARAT);
    fs::remove_dir_all(sandbox.path().join(".karat")).expect("removes");
    sandbox.write("out", "a file where a folder should be");
    let mut github = GITHUB.to_vec();
    github.push(("GITHUB_STEP_SUMMARY", "/nowhere/summary"));
    let ran = sandbox.karat_with("ci --out out", &github).expect_code(0);
    assert!(
        ran.stdout.contains("store    empty: no version of `churn` was restored"),
        "{}",
        ran.stdout
    );
    for what in ["`--out`", "GITHUB_STEP_SUMMARY"] {
        assert!(
            ran.stderr.contains(&format!("warning[reports-not-written]: {what}")),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(sandbox.alias("churn@champion"), None, "and nothing was promoted");
}

#[test]
fn a_push_is_judged_by_the_commit_before_and_promoted_on_the_default_branch() {
    let sandbox = Sandbox::reviewed(KARAT);
    fs::remove_dir_all(sandbox.path().join(".karat")).expect("removes");
    let before = sandbox.git(&["rev-parse", "HEAD"]);
    // Lax from here on, and lax only from the next push on.
    sandbox.edit("gate.toml", "min = 0.6", "min = 0.1");
    let _ = sandbox.commit("a lax policy");
    let event = serde_json::json!({"before": before, "repository": {"default_branch": "main"}});
    sandbox.write("event.log", event.to_string());
    let path = sandbox.path().join("event.log").display().to_string();
    let push = |branch: &'static str| {
        [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_EVENT_NAME", "push"),
            ("GITHUB_REF", branch),
            ("GITHUB_EVENT_PATH", path.as_str()),
        ]
    };
    let ran = sandbox.karat_with("ci --promote", &push("refs/heads/change")).expect_code(2);
    let _ = ran.expect_error("promotion-refused", &["`change`"]);
    let ran = sandbox.karat_with("ci --promote", &push("refs/heads/main")).expect_code(0);
    assert!(ran.stdout.contains("the commit before the push"), "{}", ran.stdout);
    assert!(ran.stderr.contains("base.policy gate.toml: "), "{}", ran.stderr);
    assert!(ran.stdout.contains("must be at least 0.6"), "{}", ran.stdout);
    assert_eq!(sandbox.alias("churn@champion"), Some(1));
    sandbox.write("event.log", "[");
    let _ = sandbox
        .karat_with("ci", &push("refs/heads/main"))
        .expect_code(2)
        .expect_error("event-unreadable", &["GITHUB_EVENT_PATH"]);
}

#[test]
fn the_first_commit_is_judged_by_its_own_policy_and_says_so() {
    let sandbox = Sandbox::churn(KARAT);
    sandbox.write(".gitignore", ".karat/\n");
    let _ = sandbox.git(&["init", "--quiet"]);
    let _ = sandbox.karat("ci").expect_code(2).expect_error("base-unreachable", &["no commit yet"]);
    let _ = sandbox.commit("everything");
    let ran = sandbox.karat("ci").expect_code(0);
    assert!(ran.stdout.contains("base     none: this is the first commit"), "{}", ran.stdout);
    assert!(ran.stderr.contains("judged by the policy that it brings"), "{}", ran.stderr);
}

#[test]
fn a_shallow_clone_says_which_depth_is_missing() {
    let origin = Sandbox::reviewed(KARAT);
    let _ = change(&origin);
    let clone = Sandbox::new(KARAT);
    let from = format!("file://{}", origin.path().display());
    let _ = clone.git(&["clone", "--quiet", "--depth", "1", "--branch", "change", &from, "."]);
    for (system, depth) in [
        (&GITHUB[..], "fetch-depth: 0"),
        (&GITLAB, "GIT_DEPTH: 0"),
        (&JENKINS, "Shallow clone"),
        (&[], "--unshallow"),
    ] {
        let ran = clone.karat_with("ci --base main", system).expect_code(2);
        let _ = ran.expect_error("base-unreachable", &["shallow", depth, "nothing was judged"]);
        assert!(!clone.path().join(".karat").exists(), "a refusal leaves nothing behind");
    }
    let _ = clone.karat("ci").expect_code(2).expect_error("base-unreachable", &["HEAD^"]);
    // With the target branch there, a shallow clone is deep enough.
    let _ =
        clone.git(&["fetch", "--quiet", "--depth", "1", "origin", "main:refs/remotes/origin/main"]);
    let ran = clone.karat_with("ci", &GITHUB);
    assert!(!ran.stderr.contains("base-unreachable"), "{}", ran.stderr);
}

#[test]
fn a_project_below_the_root_has_its_own_base() {
    let sandbox = Sandbox::new(KARAT);
    let inner = Sandbox::churn(KARAT);
    for file in ["karat.toml", "gate.toml", "schema/churn.toml", "churn.csv"] {
        sandbox.write(&format!("models/churn/{file}"), inner.bytes(file));
    }
    sandbox.write(".gitignore", ".karat/\nout/\n");
    sandbox.write("gate.toml", "not this one");
    let _ = sandbox.git(&["init", "--quiet"]);
    let _ = sandbox.commit("the base");
    let _ = sandbox.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    sandbox.edit("models/churn/gate.toml", "min = 0.6", "min = 0.7");
    let _ = sandbox.commit("the change");
    let ran = sandbox.karat_with("-C models/churn ci --out out", &GITHUB).expect_code(0);
    assert!(ran.stderr.contains("base.policy gate.toml"), "{}", ran.stderr);
    let quality: Value =
        serde_json::from_str(&sandbox.read("models/churn/out/code-quality.json")).expect("JSON");
    let paths: Vec<&str> = quality
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|it| it["location"]["path"].as_str())
        .collect();
    assert!(paths.iter().all(|it| it.starts_with("models/churn/")), "{paths:?}");
}

#[test]
fn git_that_is_not_there_or_says_no_has_its_own_error() {
    let sandbox = Sandbox::churn(KARAT);
    let outside = [("GIT_CEILING_DIRECTORIES", "/")];
    let _ = sandbox
        .karat_with("ci", &outside)
        .expect_code(2)
        .expect_error("repository-absent", &["karat run --dry-run"]);
    let _ = sandbox.git(&["init", "--quiet"]);
    let _ = sandbox.commit("everything");
    let _ = sandbox
        .karat_with("ci", &[("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")])
        .expect_code(2)
        .expect_error("repository-untrusted", &["safe.directory"]);
    let _ = sandbox
        .karat_with("ci", &[("PATH", "/nowhere")])
        .expect_code(3)
        .expect_error("git-absent", &["git"]);
    // A git that answers the first questions and then breaks.
    sandbox.write("bin/git", "#!/bin/sh\ncase \"$*\" in *ls-tree*) echo 'fatal: broken' >&2; exit 9;; *--verify*) echo 1111111111111111111111111111111111111111;; esac\n");
    let git = sandbox.path().join("bin/git");
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).expect("sets the mode");
    let bin = format!("{}:/usr/bin:/bin", sandbox.path().join("bin").display());
    let _ = sandbox
        .karat_with("ci", &[("PATH", &bin)])
        .expect_code(3)
        .expect_error("git-failed", &["ls-tree", "broken"]);
}
