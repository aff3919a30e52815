//! A project on fakes: pass after pass over one store, with everything that happened.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use karat_core::{
    Document, Event, Failure, Host, Name, Observer, Project, Schema, Step, Timestamp, Verdict,
    policy::Policy,
    port::{NeverStop, Stop},
    summary::CodeVersion,
};
use karat_gate::Serial;
use karat_pipeline::{AfterPass, Baseline, Case, Frozen, Lab, Whole, pick_gate};
use karat_store::{Access, Store, VersionRecord};
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
seed = 1
early_stopping = 0
"#;

pub(crate) const POLICY: &str = r#"
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

/// A project, its state folder and its fakes.
pub(crate) struct Bench {
    pub(crate) tables: MemoryTables,
    pub(crate) engine: ScriptedEngine,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) policy: String,
    pub(crate) tool: String,
    pub(crate) code: CodeVersion,
    pub(crate) host: Box<dyn Fn() -> Host + Sync>,
    pub(crate) clock: Box<dyn Fn() -> Timestamp + Sync>,
    pub(crate) stopwatch: Box<dyn Fn() -> Duration + Sync>,
}

/// Failures are injected, so nothing here needs a disk that survives the power; without one, a sweep takes seconds.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// One pass and what it told.
pub(crate) struct Pass {
    pub(crate) result: Result<Whole, Failure>,
    pub(crate) events: Vec<Event>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            tables: MemoryTables::default(),
            engine: ScriptedEngine::default(),
            folder: folder(),
            policy: POLICY.to_owned(),
            tool: "karat test".to_owned(),
            code: CodeVersion::default(),
            host: Box::new(Host::default),
            clock: Box::new(noon),
            stopwatch: ticking(),
        }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.dir(), Access::ReadWrite).expect("a crash never spoils the store")
    }

    pub(crate) fn skill(&self, skill: f32) {
        *self.engine.skill.lock().unwrap_or_else(PoisonError::into_inner) = skill;
    }

    pub(crate) fn project(set: &str) -> Project {
        let mut document = Document::parse("karat.toml", PROJECT).expect("valid");
        for assignment in set.split_whitespace() {
            document.set(assignment).expect("an assignment");
        }
        Project::read(&document).expect("valid")
    }

    pub(crate) fn policy(&self) -> Policy {
        let document = Document::parse("gate.toml", self.policy.as_str()).expect("valid");
        Policy::read(&document).expect("valid")
    }

    pub(crate) fn lab<'a>(&'a self, store: &'a Store, stop: &'a dyn Stop) -> Lab<'a> {
        Lab {
            root: self.folder.path(),
            store,
            tables: &self.tables,
            engine: &self.engine,
            parallel: &Serial,
            clock: &*self.clock,
            stop,
            tool: self.tool.clone(),
            code: self.code.clone(),
            host: &*self.host,
            peak_memory: &|| Some(123 << 20),
            resident_memory: &|| Some(64 << 20),
            stopwatch: &*self.stopwatch,
            actor: "tester".to_owned(),
        }
    }

    /// The dataset as it is now.
    pub(crate) fn frozen(&self, lab: &Lab<'_>) -> Frozen {
        let project = Self::project("");
        let dataset = project.dataset(&project.train.dataset).expect("declared");
        lab.freeze(&mut Seen::default(), dataset, Schema::default()).expect("freezes")
    }

    /// `karat gate fake@…`.
    pub(crate) fn judge(&self, store: &Store, of: u32) -> Verdict {
        self.with_case(store, of, |lab, case| lab.decide(&mut Seen::default(), case))
            .expect("decided")
            .verdict
    }

    /// Does something with a version before the gate.
    pub(crate) fn with_case<T>(
        &self,
        store: &Store,
        of: u32,
        work: impl FnOnce(&Lab<'_>, &Case<'_>) -> T,
    ) -> T {
        let lab = self.lab(store, &NeverStop);
        let (project, policy) = (&Self::project(""), &self.policy());
        let gate = pick_gate(policy, None).expect("one gate");
        let frozen = &self.frozen(&lab);
        let checked = &lab.check(&mut Seen::default(), project, frozen).expect("checks");
        let (candidate, baseline) = (&version(store, of), &Baseline::AsDeclared);
        work(&lab, &Case { project, policy, gate, frozen, checked, candidate, baseline })
    }

    /// `karat run --set …`.
    pub(crate) fn pass(&self, store: &Store, set: &str) -> Pass {
        self.pass_with(store, set, AfterPass::Promote, &NeverStop, |_| {})
    }

    /// As [`Bench::pass`]; `hook` is called at every event, before what follows it happens.
    pub(crate) fn pass_with(
        &self,
        store: &Store,
        set: &str,
        after: AfterPass,
        stop: &dyn Stop,
        hook: impl FnMut(&Event) + Send,
    ) -> Pass {
        let (project, policy) = (Self::project(set), self.policy());
        let gate = pick_gate(&policy, None).expect("one gate");
        let mut seen = Hooked { events: Vec::new(), hook };
        let lab = self.lab(store, stop);
        let result = lab.run(&mut seen, &project, Schema::default(), &policy, gate, after);
        Pass { result, events: seen.events }
    }
}

impl Pass {
    #[track_caller]
    pub(crate) fn done(self) -> Whole {
        self.result.expect("the pass ends with a verdict")
    }

    #[track_caller]
    pub(crate) fn failed(self) -> Failure {
        self.result.expect_err("the pass does not end with a verdict")
    }

    /// Whether each step that ended used an earlier one's outputs, in order.
    pub(crate) fn cached(&self) -> Vec<(Step, bool)> {
        let of = |event: &Event| match event {
            Event::StepFinished { step, is_cached, .. } => Some((*step, *is_cached)),
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }

    pub(crate) fn warnings(&self) -> Vec<(&str, &str)> {
        let mut found = Vec::new();
        for event in &self.events {
            if let Event::Warned { code, message } = event {
                found.push((code.as_str(), message.as_str()));
            }
        }
        found
    }
}

/// A quarter of a second passes between two looks.
fn ticking() -> Box<dyn Fn() -> Duration + Sync> {
    let looks = AtomicU32::new(0);
    Box::new(move || Duration::from_millis(250) * looks.fetch_add(1, Ordering::SeqCst))
}

fn noon() -> Timestamp {
    Timestamp(1_700_000_000_000)
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn champion(store: &Store) -> Option<u32> {
    store.alias(&name("fake"), &name("champion")).expect("readable").map(|it| it.version)
}

/// Where the alias has pointed, oldest first.
pub(crate) fn held(store: &Store) -> Vec<u32> {
    let history = store.history(&name("fake"), &name("champion")).expect("readable");
    history.iter().map(|it| it.to).collect()
}

pub(crate) fn version(store: &Store, version: u32) -> VersionRecord {
    store.version(&name("fake"), version).expect("registered")
}

/// Everything that must not depend on interruptions, by name: weights, manifest, metrics log, predictions, verdict.
pub(crate) fn lasting(whole: &Whole) -> BTreeMap<String, String> {
    let outputs = whole.outputs.iter().filter(|(name, _)| *name != "throughput.jsonl");
    outputs.map(|(name, digest)| (name.clone(), digest.to_string())).collect()
}

/// Flips one bit of a stored object.
pub(crate) fn rot(path: &Path) {
    let mut bytes = fs::read(path).expect("an object");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let other = path.with_extension("rotten");
    fs::write(&other, bytes).expect("writable");
    fs::rename(other, path).expect("writable");
}

/// Copies a closed store, so that a sweep prepares it once.
pub(crate) fn copy_store(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("a folder") {
        let (path, target) = {
            let entry = entry.expect("readable");
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy_store(&path, &target);
        } else {
            fs::copy(&path, &target).expect("writable");
        }
    }
}

/// Keeps what it is told.
#[derive(Default)]
pub(crate) struct Seen(pub(crate) Vec<Event>);

impl Observer for Seen {
    fn observe(&mut self, event: Event) {
        self.0.push(event);
    }
}

struct Hooked<F> {
    events: Vec<Event>,
    hook: F,
}

impl<F: FnMut(&Event) + Send> Observer for Hooked<F> {
    fn observe(&mut self, event: Event) {
        (self.hook)(&event);
        self.events.push(event);
    }
}

/// A stop that somebody else asks for.
#[derive(Clone, Default)]
pub(crate) struct Asked(Arc<AtomicBool>);

impl Asked {
    pub(crate) fn ask(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Stop for Asked {
    fn is_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
