//! The lifecycle with fakes: whichever durable effect is the last to reach the disk, a reader sees a whole state, and
//! running again finishes the job.

use std::{path::Path, sync::PoisonError};

use karat_core::{
    Document, Event, Exit, Failure, Name, Observer, Project, Schema, Timestamp,
    policy::Policy,
    port::{NeverStop, Stop},
    summary::CodeVersion,
};
use karat_gate::Serial;
use karat_pipeline::{AfterPass, Lab, Whole, pick_gate};
use karat_store::{Access, FaultPlan, Store};
use karat_testkit::{MemoryTables, ScriptedEngine};

const PROJECT: &str = r#"
version = 1
[project]
name = "fake"
[dataset.fake]
files = "rows"
[split.fake]
train = { hash = [0, 80] }
holdout = { hash = [80, 100] }
[train]
hidden = [4]
"#;

const POLICY: &str = r#"
version = 1
[gate.release]
baseline = "@champion"
without_baseline = "absolute-rules-only"
n_resamples = 999
[[gate.release.rule]]
name = "ranks"
metric = "auc"
min = 0.6
[[gate.release.rule]]
name = "not worse"
metric = "auc"
max_regression = { absolute = 0.02 }
"#;

struct Bench {
    tables: MemoryTables,
    engine: ScriptedEngine,
}

struct Seen(Vec<Event>);

impl Observer for Seen {
    fn observe(&mut self, event: Event) {
        self.0.push(event);
    }
}

impl Bench {
    fn new() -> Self {
        Self { tables: MemoryTables::default(), engine: ScriptedEngine::default() }
    }

    fn skill(&self, skill: f32) {
        *self.engine.skill.lock().unwrap_or_else(PoisonError::into_inner) = skill;
    }

    fn run(
        &self,
        store: &Store,
        root: &Path,
        seed: u64,
        stop: &dyn Stop,
    ) -> (Result<Whole, Failure>, Vec<Event>) {
        let mut document = Document::parse("karat.toml", PROJECT).expect("valid");
        document.set(&format!("train.seed={seed}")).expect("an assignment");
        let project = Project::read(&document).expect("valid");
        let policy =
            Policy::read(&Document::parse("gate.toml", POLICY).expect("valid")).expect("valid");
        let clock = || Timestamp(1_700_000_000_000);
        let lab = Lab {
            root,
            store,
            tables: &self.tables,
            engine: &self.engine,
            parallel: &Serial,
            clock: &clock,
            stop,
            tool: "karat test".to_owned(),
            code: CodeVersion::default(),
            actor: "tester".to_owned(),
        };
        let mut seen = Seen(Vec::new());
        let gate = pick_gate(&policy, None).expect("one gate");
        let result =
            lab.run(&mut seen, &project, Schema::default(), &policy, gate, AfterPass::Promote);
        (result, seen.0)
    }
}

fn champion(store: &Store) -> Option<u32> {
    let name = |text: &str| text.parse::<Name>().expect("a name");
    store.alias(&name("fake"), &name("champion")).expect("readable").map(|it| it.version)
}

fn history_head(store: &Store) -> Option<u32> {
    let name = |text: &str| text.parse::<Name>().expect("a name");
    store.history(&name("fake"), &name("champion")).expect("readable").last().map(|it| it.to)
}

#[test]
fn a_run_survives_a_failure_at_every_durable_effect() {
    let mut failures = 0;
    for n in 0.. {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("state");
        let bench = Bench::new();
        // A champion exists before, so that promotion has something to replace.
        {
            let store = Store::open(&dir, Access::ReadWrite).expect("a new store");
            bench.skill(0.7);
            let (first, _) = bench.run(&store, folder.path(), 1, &NeverStop);
            assert_eq!(first.expect("the first run passes").exit, Exit::Pass);
        }
        bench.skill(0.9);
        let is_failed = {
            match Store::open_faulty(&dir, FaultPlan { fail_at: n }) {
                Ok(store) => bench.run(&store, folder.path(), 2, &NeverStop).0.is_err(),
                Err(_) => true,
            }
        };
        let store = Store::open(&dir, Access::ReadWrite).expect("a crash never spoils the store");
        let seen = champion(&store);
        assert!(seen == Some(1) || seen == Some(2), "effect {n}: the champion is {seen:?}");
        assert_eq!(history_head(&store), seen, "effect {n}: history and alias disagree");
        let report = store.verify(true, &mut |_, _| {}).expect("readable");
        assert!(report.problems.is_empty(), "effect {n}: {:?}", report.problems);

        let (again, _) = bench.run(&store, folder.path(), 2, &NeverStop);
        assert_eq!(again.expect("the second try always finishes").exit, Exit::Pass);
        assert_eq!(champion(&store), Some(2), "effect {n}");
        if !is_failed {
            assert!(
                30 <= failures,
                "only {failures} effects seen: is the fault injector wired in?"
            );
            return;
        }
        failures += 1;
    }
}

#[test]
fn a_worse_candidate_fails_and_the_champion_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("state"), Access::ReadWrite).expect("a new store");
    let bench = Bench::new();
    assert_eq!(bench.run(&store, folder.path(), 1, &NeverStop).0.expect("passes").exit, Exit::Pass);
    bench.skill(0.2);
    let worse = bench.run(&store, folder.path(), 2, &NeverStop).0.expect("decided");
    assert_eq!(worse.exit, Exit::Fail);
    assert_eq!(champion(&store), Some(1));
    assert!(!worse.summary.promotion.expect("a promotion line").is_moved);
}

#[test]
fn a_second_run_does_nothing_again_and_says_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("state"), Access::ReadWrite).expect("a new store");
    let bench = Bench::new();
    let first = bench.run(&store, folder.path(), 1, &NeverStop).0.expect("passes");
    let (second, events) = bench.run(&store, folder.path(), 1, &NeverStop);
    let second = second.expect("passes");
    assert_eq!(first.summary.verdict, second.summary.verdict);
    for event in events {
        if let Event::StepFinished { step, is_cached, .. } = event {
            assert!(is_cached, "{} was done again", step.word());
        }
    }
}

struct StopNow;

impl Stop for StopNow {
    fn is_requested(&self) -> bool {
        true
    }
}

#[test]
fn a_stopped_training_ends_with_75_and_the_same_run_continues() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("state"), Access::ReadWrite).expect("a new store");
    let bench = Bench::new();
    let stopped = bench.run(&store, folder.path(), 1, &StopNow).0.expect_err("stopped");
    assert_eq!(stopped.exit.code(), 75);
    let n_runs = |store: &Store| {
        store.runs(100).expect("readable").iter().filter(|it| it.step.word() == "train").count()
    };
    assert_eq!(n_runs(&store), 1);
    assert_eq!(bench.run(&store, folder.path(), 1, &NeverStop).0.expect("passes").exit, Exit::Pass);
    assert_eq!(n_runs(&store), 1, "the same run was taken over");
}
