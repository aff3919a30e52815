//! Pages of lists: what is asked for, in the order asked for, and no more.

use karat_core::{Outcome, Step};
use serde_json::json;

use super::{
    NOW, complete_run, end, folder, judge_and_promote, keep, name, open, start, verdict, version,
};
use crate::{Access, RunEnd, RunLog, RunLogFile, RunOrder, RunQuery, RunState, Span, Store};

const FIRST: Span = Span { offset: 0, limit: 50 };

fn subjects(store: &Store, query: &RunQuery, span: Span) -> (Vec<String>, u64) {
    let page = store.browse_runs(query, span).expect("a page");
    (page.rows.into_iter().map(|it| it.subject).collect(), page.n_all)
}

/// Runs `a` to `d`: two trainings, a failed score, a check at work.
fn four_runs(store: &Store) {
    for (key, step, state, seconds, loss) in [
        ("a", Step::Train, RunState::Complete, 3.0, json!(0.5)),
        ("b", Step::Train, RunState::Complete, 1.0, json!(0.25)),
        ("C", Step::Score, RunState::Failed, 2.0, json!(null)),
    ] {
        let handle = store.begin_run(&start(step, key), NOW).expect("begins");
        let metrics = json!({ "best_eval_loss": loss, "summary": format!("result of {key}") });
        let error = (state == RunState::Failed).then(|| "disk-full: no room".to_owned());
        let end = RunEnd { state, metrics, seconds, error, ..end([].into()) };
        store.finish_run(&handle, &end, NOW).expect("ends");
    }
    store.begin_run(&start(Step::Check, "d"), NOW).expect("begins");
}

#[test]
fn runs_are_filtered_ordered_and_cut_into_pages() {
    let dir = folder();
    let store = open(dir.path());
    four_runs(&store);
    let all = RunQuery::default();
    let of = |keys: &[&str]| keys.iter().map(|it| format!("subject of {it}")).collect::<Vec<_>>();
    assert_eq!(subjects(&store, &all, FIRST), (of(&["d", "C", "b", "a"]), 4));
    assert_eq!(subjects(&store, &all, Span { offset: 1, limit: 2 }), (of(&["C", "b"]), 4));
    assert_eq!(subjects(&store, &all, Span { offset: 9, limit: 2 }), (of(&[]), 4));
    for (order, expected) in [
        (RunOrder::Oldest, ["a", "b", "C", "d"]),
        (RunOrder::Longest, ["a", "C", "b", "d"]),
        (RunOrder::BestLoss, ["b", "a", "d", "C"]),
    ] {
        let query = RunQuery { order, ..all.clone() };
        assert_eq!(subjects(&store, &query, FIRST).0, of(&expected), "{order:?}");
    }
    let train = RunQuery { step: Some(Step::Train), ..all.clone() };
    assert_eq!(subjects(&store, &train, FIRST), (of(&["b", "a"]), 2));
    let failed = RunQuery { state: Some(RunState::Failed), ..all.clone() };
    let page = store.browse_runs(&failed, FIRST).expect("a page");
    assert_eq!((page.n_all, page.rows[0].result.as_str()), (1, "disk-full: no room"));
    for (text, n) in [("OF C", 1), ("subject of %", 0), ("' OR 1=1", 0), ("r-", 4)] {
        let query = RunQuery { text: text.to_owned(), ..all.clone() };
        assert_eq!(subjects(&store, &query, FIRST).1, n, "{text}");
    }
    let counts = store.counts().expect("counts");
    assert_eq!((counts.n_runs, counts.n_running, counts.n_failed), (4, 1, 1));
}

#[test]
fn a_page_has_a_limit_whatever_is_asked_for() {
    let dir = folder();
    let store = open(dir.path());
    for i in 0..=super::super::PAGE_ROWS_MAX {
        store.begin_run(&start(Step::Check, &i.to_string()), NOW).expect("begins");
    }
    let span = Span { offset: 0, limit: u32::MAX };
    let page = store.browse_runs(&RunQuery::default(), span).expect("a page");
    assert_eq!((page.rows.len(), page.n_all), (200, 201));
}

#[test]
fn objects_know_who_made_them_and_who_was_given_them() {
    let dir = folder();
    let store = open(dir.path());
    let (run, outputs) = complete_run(&store, "a").expect("a run");
    let made = store.makers_of(&outputs["model.safetensors"], 9).expect("its makers");
    assert_eq!(made, [(run, Step::Train, "model.safetensors".to_owned())]);
    let snapshot = start(Step::Train, "a").inputs["snapshot"];
    assert_eq!(store.runs_given(&snapshot, 9).expect("its users").len(), 1);
    assert!(store.runs_given(&outputs["model.safetensors"], 9).expect("none").is_empty());
}

#[test]
fn models_versions_and_verdicts_have_pages() {
    let dir = folder();
    let store = open(dir.path());
    let [first, second] = ["a", "b"].map(|key| version(&store, key).expect("registers"));
    let models = store.browse_models(FIRST).expect("models");
    let shown: Vec<_> =
        models.rows.iter().map(|it| (it.model.as_str(), it.n_versions, it.newest)).collect();
    assert_eq!(shown, [("flights", 2, 2)]);
    let versions = store.browse_versions(&name("flights"), FIRST).expect("versions");
    assert_eq!(versions.rows, [second.clone(), first.clone()]);
    let (model, number) = store.version_with(&second.manifest).expect("looks").expect("there is");
    assert_eq!((model, number), (name("flights"), 2));

    let failed = verdict(&second, Some(&first), Outcome::Fail);
    let digest = keep(&store, &failed).expect("kept");
    let page =
        |gate: &str, outcome| store.browse_verdicts(gate, outcome, FIRST).expect("verdicts").rows;
    let all = page("", None);
    assert_eq!((all.len(), all[0].digest), (1, digest));
    assert_eq!(all[0].version, Some((name("flights"), 2)));
    assert_eq!(page("release", Some(Outcome::Fail)).len(), 1);
    assert!(page("another", None).is_empty());
    assert!(page("", Some(Outcome::Pass)).is_empty());
    assert_eq!(store.verdict_rows_of(&second.manifest, 9).expect("verdicts"), all);
    assert!(store.verdict_rows_of(&first.manifest, 9).expect("none").is_empty());

    let moved = judge_and_promote(&store, &first).expect("promotes");
    let moves = store.browse_promotions(Some(&name("flights")), FIRST).expect("promotions");
    assert_eq!((moves.n_all, &moves.rows[0]), (1, &moved));
    assert!(store.browse_promotions(Some(&name("other")), FIRST).expect("none").rows.is_empty());
}

/// A page must never keep a training from committing, nor the other way round.
#[test]
fn a_reader_sees_a_running_log_and_holds_up_no_writer() {
    let dir = folder();
    let store = open(dir.path());
    let handle = store.begin_run(&start(Step::Train, "a"), NOW).expect("begins");
    let mut log = RunLog::open(&store, &handle.id).expect("a log");
    log.note_evaluation(5, 0.25, 0.5);
    log.flush().expect("flushed");
    let reader = Store::open(dir.path(), Access::ReadOnly).expect("a reader");
    let lines = reader.run_log_lines(&handle.id, RunLogFile::Evaluations, 9).expect("lines");
    assert_eq!(lines, [r#"{"update":5,"loss":0.25,"value":0.5}"#]);
    assert!(reader.run_log_lines(&handle.id, RunLogFile::Metrics, 9).expect("none").is_empty());
    let escape = karat_core::RunId("../../etc".to_owned());
    assert!(reader.run_log_lines(&escape, RunLogFile::Metrics, 9).is_err());
    store.finish_run(&handle, &end([].into()), NOW).expect("the writer is not held up");
    assert_eq!(reader.counts().expect("counts").n_running, 0);
}
