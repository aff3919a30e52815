//! Where the policy demands it, an alias moves only to what a trusted key has signed: exactly these files, exactly this
//! verdict. And a verdict moves it only when every digest it names is of bytes that belong to the candidate.

use std::collections::BTreeMap;

use karat_attest::{SigningKey, bundle, oms};
use karat_core::{
    Digest, Event, Exit, Failure, Schema, Step, Verdict,
    policy::{Policy, Signatures},
    port::NeverStop,
    summary::CodeVersion,
};
use karat_pipeline::{
    AfterPass, CHAMPION, Signer, Whole, pick_gate,
    sign::{MODEL_SIGNATURE, VERDICT_SIGNATURE, files_of},
};
use karat_store::{RunEnd, RunStart, RunState, Store};
use serde_json::json;

use crate::bench::{Bench, Seen, champion, held, name, rot, version};

/// Trusted, and a stranger's.
const KEYS: [&str; 2] = [
    include_str!("../../../attest/tests/fixtures/keys/p256.pem"),
    include_str!("../../../attest/tests/fixtures/keys/p384.pem"),
];

fn key(idx: usize) -> SigningKey {
    SigningKey::from_pem(KEYS[idx].to_owned()).expect("a test key")
}

fn signer(key: &SigningKey) -> Signer<'_> {
    Signer { key, lock: Digest::of(b"lock"), epoch: None }
}

/// A project whose policy trusts the first key.
fn bench() -> Bench {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.folder.path().join("keys")).expect("a folder");
    std::fs::write(bench.folder.path().join("keys/release.pub"), key(0).public().to_pem())
        .expect("written");
    bench
}

fn policy(bench: &Bench) -> Policy {
    let mut policy = bench.policy();
    for gate in policy.gates.values_mut() {
        gate.signatures = Some(Signatures { keys: vec!["keys/release.pub".to_owned()] });
    }
    policy
}

fn pass(
    bench: &Bench,
    store: &Store,
    set: &str,
    signer: Option<Signer<'_>>,
) -> Result<Whole, Failure> {
    let (project, policy) = (Bench::project(set), policy(bench));
    let gate = pick_gate(&policy, None).expect("one gate");
    let lab = bench.lab(store, &NeverStop);
    let (schema, after) = (Schema::default(), AfterPass::Promote);
    lab.run_and_sign(&mut Seen::default(), &project, schema, &policy, gate, after, signer)
}

/// What `karat promote fake@N` does.
fn promote(bench: &Bench, store: &Store, to: u32) -> Result<(), Failure> {
    let lab = bench.lab(store, &NeverStop);
    let (version, policy) = (version(store, to), policy(bench));
    let verdict = lab.passing_verdict(&version, &policy, &name(CHAMPION))?;
    lab.demand_judged(&version, &policy, &verdict)
}

fn sign(bench: &Bench, store: &Store, of: u32, key: &SigningKey) -> BTreeMap<String, Digest> {
    let lab = bench.lab(store, &NeverStop);
    let version = version(store, of);
    let verdict = lab.verdict_to_sign(&version, Some(&policy(bench))).expect("readable");
    lab.sign(&mut Seen::default(), &version, verdict, signer(key)).expect("signed")
}

#[track_caller]
fn refused(done: Result<(), Failure>) -> (&'static str, Exit) {
    let failure = done.expect_err("refused");
    (failure.code.as_str(), failure.exit)
}

#[test]
fn a_pass_that_nobody_signed_leaves_the_alias_and_keeps_its_code() {
    let (bench, stranger) = (bench(), key(1));
    let store = bench.store();
    let whole = pass(&bench, &store, "", None).expect("a verdict");
    assert_eq!(whole.exit, Exit::Pass, "the verdict is what it is");
    let promotion = whole.summary.promotion.expect("a line");
    assert!(
        !promotion.is_moved && promotion.reason.starts_with("signature-missing: "),
        "{promotion:?}"
    );
    assert_eq!(champion(&store), None);
    assert_eq!(refused(promote(&bench, &store, 1)), ("signature-missing", Exit::Fail));

    // A stranger's word is none.
    let signed = Some(signer(&stranger));
    let whole = pass(&bench, &store, "", signed).expect("a verdict");
    let reason = whole.summary.promotion.expect("a line").reason;
    assert!(reason.starts_with("signature-key-unknown: "), "{reason}");
    assert_eq!(champion(&store), None);
    assert_eq!(refused(promote(&bench, &store, 1)), ("signature-key-unknown", Exit::Fail));
}

#[test]
fn a_pass_that_is_signed_moves_the_alias_now_or_later() {
    let (bench, trusted) = (bench(), key(0));
    let store = bench.store();
    let signed = Some(signer(&trusted));
    let whole = pass(&bench, &store, "", signed).expect("a verdict");
    assert!(whole.summary.promotion.expect("a line").is_moved);
    for file in ["model.sig", "verdict.sig", "provenance.sig", "bom.cdx.json", "verdict.json"] {
        assert!(whole.outputs.contains_key(file), "no {file} in {:?}", whole.outputs.keys());
    }
    assert_eq!(held(&store), [1]);

    bench.skill(0.95);
    let unsigned = pass(&bench, &store, "train.seed=2", None).expect("a verdict");
    assert_eq!((unsigned.exit, champion(&store)), (Exit::Pass, Some(1)));
    assert_eq!(refused(promote(&bench, &store, 2)), ("signature-missing", Exit::Fail));
    sign(&bench, &store, 2, &trusted);
    promote(&bench, &store, 2).expect("signed");
    let again = pass(&bench, &store, "train.seed=2", None).expect("a verdict");
    assert!(again.summary.promotion.expect("a line").is_moved);
    assert_eq!(held(&store), [1, 2]);
}

#[test]
fn signing_again_is_cached_and_what_is_signed_says_nothing_of_the_clock() {
    let (mut bench, trusted) = (bench(), key(0));
    let store = bench.store();
    let _ = pass(&bench, &store, "", None).expect("a verdict");
    let first = sign(&bench, &store, 1, &trusted);
    bench.clock = Box::new(|| karat_core::Timestamp(1_900_000_000_000));
    assert_eq!(sign(&bench, &store, 1, &trusted), first);
    let lab = bench.lab(&store, &NeverStop);
    assert_eq!(lab.signings(&version(&store, 1)).expect("readable").len(), 1);
    let mut seen = Seen::default();
    let verdict = Some(first["verdict.json"]);
    let _ = lab.sign(&mut seen, &version(&store, 1), verdict, signer(&trusted)).expect("signed");
    let is_cached = |event: &Event| {
        matches!(event, Event::StepFinished { step: Step::Sign, is_cached: true, .. })
    };
    assert!(seen.0.iter().any(is_cached), "{:?}", seen.0);
}

#[test]
fn another_verdict_needs_another_signature() {
    let (mut bench, trusted) = (bench(), key(0));
    let store = bench.store();
    let signed = Some(signer(&trusted));
    let _ = pass(&bench, &store, "", signed).expect("a verdict");
    bench.policy = bench.policy.replace("min = 0.6", "min = 0.55");
    let whole = pass(&bench, &store, "", None).expect("a verdict");
    assert_eq!(whole.exit, Exit::Pass);
    let failure = promote(&bench, &store, 1).expect_err("signed for another verdict");
    assert_eq!(failure.code.as_str(), "signature-missing");
    assert_eq!(failure.details, ["signatures over other verdicts on it: 1"]);
}

/// Records a signing that nobody made.
fn forge(store: &Store, text: &str, name: &str) {
    let bundle = store.put_bytes(text.as_bytes()).expect("stored");
    let start = RunStart {
        step: Step::Sign,
        key: Digest::of(text.as_bytes()),
        subject: "fake@1".to_owned(),
        spec: json!({}),
        inputs: BTreeMap::new(),
        seed: None,
        device: String::new(),
        tool: "karat test".to_owned(),
        code: CodeVersion::default(),
    };
    let at = karat_core::Timestamp(1_700_000_000_001);
    let handle = store.begin_run(&start, at).expect("begins");
    let end = RunEnd {
        state: RunState::Complete,
        outputs: BTreeMap::from([(name.to_owned(), bundle)]),
        metrics: json!({}),
        seconds: 0.0,
        error: None,
    };
    store.finish_run(&handle, &end, at).expect("recorded");
}

#[test]
fn forged_records_of_signing_convince_nobody_and_take_nothing_away() {
    let (bench, trusted, stranger) = (bench(), key(0), key(1));
    let store = bench.store();
    let _ = pass(&bench, &store, "", None).expect("a verdict");
    let files = files_of(&version(&store, 1));
    let good = oms::statement("model", &files).expect("not empty");
    let mut others = files.clone();
    others.insert("model.safetensors".to_owned(), Digest::of(b"other weights"));
    let other = oms::statement("model", &others).expect("not empty");

    // A trusted signature over other files.
    forge(&store, &bundle::sign(&other, &trusted), MODEL_SIGNATURE);
    assert_eq!(refused(promote(&bench, &store, 1)), ("signature-invalid", Exit::Fail));
    // A stranger's signature that claims to be the trusted one's.
    let (mine, theirs) = (key(0).public().fingerprint(), key(1).public().fingerprint());
    forge(&store, &bundle::sign(&good, &stranger).replace(&theirs, &mine), MODEL_SIGNATURE);
    assert_eq!(refused(promote(&bench, &store, 1)), ("signature-invalid", Exit::Fail));
    forge(&store, "{}", MODEL_SIGNATURE);
    // The model is signed; the verdict is not, and a signature over the model is none over it.
    forge(&store, &bundle::sign(&good, &trusted), MODEL_SIGNATURE);
    assert_eq!(refused(promote(&bench, &store, 1)), ("signature-missing", Exit::Fail));
    forge(&store, &bundle::sign(&good, &trusted), VERDICT_SIGNATURE);
    assert_eq!(refused(promote(&bench, &store, 1)), ("signature-invalid", Exit::Fail));

    sign(&bench, &store, 1, &trusted);
    promote(&bench, &store, 1).expect("one good signature over each is enough");
}

#[test]
fn a_key_that_is_not_there_is_known_before_anything_is_trained() {
    let bench = bench();
    let store = bench.store();
    std::fs::write(bench.folder.path().join("keys/release.pub"), "not a key").expect("written");
    let failure = pass(&bench, &store, "", None).expect_err("no key");
    assert_eq!((failure.code.as_str(), failure.exit), ("key-invalid", Exit::Usage));
    std::fs::remove_file(bench.folder.path().join("keys/release.pub")).expect("removed");
    let failure = pass(&bench, &store, "", None).expect_err("no key");
    assert_eq!((failure.code.as_str(), failure.exit), ("key-unreadable", Exit::Usage));
    assert!(failure.details[0].contains("keys/release.pub"), "{failure:?}");
    assert_eq!(store.runs(10).expect("readable").len(), 0, "nothing was begun");
}

/// What is said about a verdict after a change of it.
type Case<'a> = (&'a str, &'a dyn Fn(&mut Verdict));

/// Each digest that a verdict names, exchanged in a verdict that passes.
#[test]
fn a_verdict_for_other_bytes_moves_nothing() {
    let bench = Bench::new();
    let store = bench.store();
    let first = bench.pass_with(&store, "", AfterPass::Leave, &NeverStop, |_| {}).done();
    bench.skill(0.95);
    let second =
        bench.pass_with(&store, "train.seed=2", AfterPass::Leave, &NeverStop, |_| {}).done();
    let good = second.summary.verdict.expect("judged");
    let lab = bench.lab(&store, &NeverStop);
    let (candidate, policy) = (version(&store, 2), bench.policy());
    let check = |edit: &dyn Fn(&mut Verdict)| {
        let mut verdict = good.clone();
        edit(&mut verdict);
        let ledger = store.ledger().expect("whole");
        verdict.ledger = Some(ledger.place(&verdict.gate, None, &verdict.judged).ledger);
        let kept = store.put_verdict(&verdict, "tester", karat_core::Timestamp(0));
        let digest = kept.expect("kept").expect("nobody was faster");
        lab.demand_judged(&candidate, &policy, &digest)
    };
    check(&|_| {}).expect("as it was");
    let other = first.summary.verdict.expect("judged").judged;
    assert_ne!(other.predictions, good.judged.predictions);
    let cases: [Case<'_>; 6] = [
        ("it judged", &|it| it.judged.candidate = other.candidate),
        ("no run on record made", &|it| it.judged.predictions = other.predictions),
        ("are not in the store", &|it| it.judged.predictions = Digest::of(b"never made")),
        ("no run on record made", &|it| it.judged.snapshot = Digest::of(b"another")),
        ("its predictions hold rows", &|it| it.judged.rows = Digest::of(b"another")),
        ("declares no gate `other`", &|it| it.gate = "other".to_owned()),
    ];
    for (part, edit) in cases {
        let failure = check(edit).expect_err(part);
        assert_eq!(failure.code.as_str(), "verdict-mismatch", "{part}");
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    rot(&store.path(&good.judged.predictions));
    let failure = check(&|_| {}).expect_err("damaged");
    assert!(failure.message.contains("are not in the store"), "{}", failure.message);
}

#[test]
fn what_is_damaged_or_was_never_made_is_not_signed() {
    let (bench, trusted) = (bench(), key(0));
    let store = bench.store();
    let _ = pass(&bench, &store, "", None).expect("a verdict");
    let lab = bench.lab(&store, &NeverStop);
    let first = version(&store, 1);

    let mut manifest: serde_json::Value =
        serde_json::from_slice(&store.read(&first.manifest).expect("stored")).expect("JSON");
    manifest["n_rows"] = 1.into();
    let manifest = store.put_bytes(manifest.to_string().as_bytes()).expect("stored");
    let mut outputs = first.outputs.clone();
    outputs.insert("model.json".to_owned(), manifest);
    let forged = store
        .register(&name("fake"), &manifest, &first.run, &outputs, karat_core::Timestamp(0))
        .expect("registered");
    let failure = lab.sign(&mut Seen::default(), &forged, None, signer(&trusted));
    assert_eq!(failure.expect_err("forged").code.as_str(), "record-altered");

    rot(&store.path(&first.outputs["model.safetensors"]));
    let failure = lab.sign(&mut Seen::default(), &first, None, signer(&trusted));
    assert_eq!(failure.expect_err("damaged").code.as_str(), "object-missing");
}
