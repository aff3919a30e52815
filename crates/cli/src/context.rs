//! What a command is given: the project, the store and the adapters, opened when first needed.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use karat_core::{
    Document, Event, Exit, Failure, Name, Observer, Project, Schema,
    policy::Policy,
    schema,
    summary::{CodeVersion, Dvc},
};
use karat_engine::{BurnEngine, device::Prober};
use karat_pipeline::Lab;
use karat_store::{Access, Store};
use karat_table::ArrowTables;

use crate::{
    args::GlobalFlags,
    dvc, env,
    render::Screen,
    signals::{FirstSignal, StopFlag},
};

/// Name of the project file.
pub(crate) const PROJECT_FILE: &str = "karat.toml";
/// Name of the policy file.
pub(crate) const POLICY_FILE: &str = "gate.toml";
/// Name of the state folder.
pub(crate) const STATE_DIR: &str = ".karat";

/// How long a device may take to open and multiply: drivers compile kernels, and machines are busy.
const PROBE_PATIENCE: Duration = Duration::from_secs(60);

/// One invocation.
pub(crate) struct Session {
    pub(crate) common: GlobalFlags,
    pub(crate) stop: StopFlag,
    screen: Mutex<Screen>,
}

/// A project that was opened: files, store, adapters.
pub(crate) struct Workshop {
    pub(crate) root: PathBuf,
    pub(crate) store: Store,
    tables: ArrowTables,
    engine: BurnEngine,
    parallel: Rayon,
    /// What DVC has on record, for runs that are begun.
    dvc: Option<Dvc>,
}

/// The gate's resampling on rayon's threads.
pub(crate) struct Rayon;

impl karat_gate::Parallel for Rayon {
    fn for_each(&self, n: usize, work: &(dyn Fn(usize) + Sync)) {
        use rayon::prelude::{IntoParallelIterator, ParallelIterator};
        (0..n).into_par_iter().for_each(work);
    }
}

impl Session {
    pub(crate) fn new(common: &GlobalFlags, first: FirstSignal) -> Self {
        Self {
            common: common.clone(),
            stop: StopFlag::listen(first),
            screen: Mutex::new(Screen::new(common)),
        }
    }

    /// An observer that shows events as they come.
    pub(crate) fn observer(&self) -> impl Observer + '_ {
        Shown(&self.screen)
    }

    /// Shows an error. Commands in its hints are for pasting: they name the project's folder as this one did.
    pub(crate) fn failed(&self, failure: &Failure) {
        let mut failure = failure.clone();
        let command = format!("`{}", self.karat());
        for hint in &mut failure.hints {
            // `init` names its folder itself.
            if !hint.contains("`karat -C ") && !hint.contains("`karat init ") {
                *hint = hint.replace("`karat ", &format!("{command} "));
            }
        }
        self.with_screen(|screen| screen.failed(&failure));
    }

    /// The first failure of writing to stdout, if there was one.
    pub(crate) fn take_stdout_failure(&self) -> Option<Failure> {
        self.with_screen(Screen::take_stdout_failure)
    }

    /// Writes a finished text to stdout; nothing in `--json`, where the events are the output.
    pub(crate) fn text(&self, text: &str) {
        self.with_screen(|screen| screen.text(text));
    }

    /// Writes one JSON value: the output of a command in `--json`.
    pub(crate) fn json(&self, value: &serde_json::Value) {
        self.with_screen(|screen| screen.json(value));
    }

    pub(crate) fn with_screen<T>(&self, work: impl FnOnce(&mut Screen) -> T) -> T {
        work(&mut self.screen.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The project's folder.
    pub(crate) fn root(&self) -> &Path {
        &self.common.dir
    }

    /// A path of the command line: `-C DIR` means as if started in DIR.
    pub(crate) fn path(&self, typed: &Path) -> PathBuf {
        if self.is_here() {
            typed.to_owned()
        } else {
            // Without the dots that `DIR/.` would show.
            self.root().join(typed).components().collect()
        }
    }

    /// How a suggested command begins: `karat`, with the `-C DIR` that this one had.
    pub(crate) fn karat(&self) -> String {
        if self.is_here() { "karat".to_owned() } else { karat_in(self.root()) }
    }

    fn is_here(&self) -> bool {
        self.root() == Path::new(".")
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        let path = self.root().join(name);
        std::fs::read_to_string(&path).map_err(|error| {
            let failure = Failure::new(
                "config-unreadable",
                Exit::Usage,
                format!("cannot read `{}`", path.display()),
            )
            .because(&error);
            if error.kind() == std::io::ErrorKind::NotFound && name == PROJECT_FILE {
                failure
                    .hint("`karat -C DIR …` names the folder of `karat.toml`")
                    .hint("`karat init DIR --data FILE --label COLUMN` writes one")
            } else {
                failure
            }
        })
    }

    /// `karat.toml` with every `--set` and flag applied.
    pub(crate) fn project(&self) -> Result<Project, Failure> {
        let mut document = Document::parse(PROJECT_FILE, self.read(PROJECT_FILE)?)?;
        for assignment in self.common.set.iter().filter(|it| !it.starts_with("gate.")) {
            document.set(assignment)?;
        }
        let mut project = Project::read(&document)?;
        if let Some(device) = &self.common.device {
            project.train.device.clone_from(device);
        }
        if let Some(threads) = self.common.threads {
            project.train.threads = threads;
        }
        project.train.device_policy.is_deterministic |= self.common.deterministic;
        project.train.device_policy.skips_probe |= self.common.no_probe;
        Ok(project)
    }

    /// [`Session::project`] for a command that computes: its device is one that works, and has a name of its own.
    pub(crate) fn project_to_compute(&self) -> Result<Project, Failure> {
        let mut project = self.project()?;
        let asked = &project.train.device;
        let choice = BurnEngine.choose(&prober()?, asked)?;
        // In a build for `cpu` alone there is nothing to choose from and nothing to tell.
        if !choice.passed_over.is_empty() {
            self.observer().observe(Event::Warned {
                code: "device-chosen".to_owned(),
                message: format!(
                    "`{asked}` is `{}`: {}",
                    choice.name,
                    choice.passed_over.join("; ")
                ),
            });
        }
        project.train.device = choice.name;
        Ok(project)
    }

    /// `gate.toml` with every `--set gate.…` applied. Says as what it read the words of other tools.
    pub(crate) fn policy(&self) -> Result<Policy, Failure> {
        Ok(self.policy_document()?.0)
    }

    /// [`Session::policy`], and where its rules stand.
    pub(crate) fn policy_document(&self) -> Result<(Policy, Document), Failure> {
        let mut document = Document::parse(POLICY_FILE, self.read(POLICY_FILE)?)?;
        for assignment in self.common.set.iter().filter(|it| it.starts_with("gate.")) {
            document.set(assignment)?;
        }
        let policy = Policy::read(&document)?;
        for note in &policy.notes {
            self.observer().observe(Event::Warned {
                code: "policy-other-words".to_owned(),
                message: note.clone(),
            });
        }
        Ok((policy, document))
    }

    /// The schema file of a dataset.
    pub(crate) fn schema(&self, project: &Project, dataset: &Name) -> Result<Schema, Failure> {
        let dataset = project.dataset(dataset)?;
        let text = self.read(&dataset.schema).map_err(|failure| {
            failure.hint(format!(
                "`karat snapshot {} --infer-schema` writes it from the data",
                dataset.name
            ))
        })?;
        schema::read(&Document::parse(dataset.schema.as_str(), text)?)
    }

    /// Opens the store and the adapters.
    pub(crate) fn open(&self, access: Access) -> Result<Workshop, Failure> {
        let dir = self.root().join(STATE_DIR);
        if access == Access::ReadOnly {
            self.demand_store()?;
        }
        let dvc = match access {
            Access::ReadWrite => dvc::lineage(self.root())?,
            Access::ReadOnly => None,
        };
        let store = Store::open(&dir, access)?;
        let threads = self.n_threads();
        // One pool for the whole process. It exists already only when a command opens two workshops.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        let tables = ArrowTables::new(threads, store.dir().join("tmp"));
        Ok(Workshop {
            root: self.root().to_owned(),
            store,
            tables,
            engine: BurnEngine,
            parallel: Rayon,
            dvc,
        })
    }

    /// Opens for writing what an earlier command left: a command that needs it creates nothing where there is nothing.
    pub(crate) fn open_existing(&self) -> Result<Workshop, Failure> {
        self.demand_store()?;
        self.open(Access::ReadWrite)
    }

    fn demand_store(&self) -> Result<(), Failure> {
        let dir = self.root().join(STATE_DIR);
        if dir.exists() {
            return Ok(());
        }
        Err(Failure::new(
            "store-absent",
            Exit::Usage,
            format!("`{}` does not exist: nothing has been run here", dir.display()),
        )
        .hint("`karat run` does everything from snapshot to promotion"))
    }

    /// Threads this process computes with.
    pub(crate) fn n_threads(&self) -> usize {
        match self.common.threads {
            Some(threads) if 0 < threads => threads,
            _ => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }

    /// The lab that commands work in.
    pub(crate) fn lab<'a>(&'a self, workshop: &'a Workshop) -> Lab<'a> {
        Lab {
            root: &workshop.root,
            store: &workshop.store,
            tables: &workshop.tables,
            engine: &workshop.engine,
            parallel: &workshop.parallel,
            clock: &env::now,
            stop: &self.stop,
            tool: TOOL.to_owned(),
            code: CodeVersion { dvc: workshop.dvc.clone(), ..env::code_version(&workshop.root) },
            host: &env::host,
            peak_memory: &env::peak_memory,
            resident_memory: &env::resident_memory,
            stopwatch: &env::stopwatch,
            actor: env::actor(),
        }
    }
}

/// This program again, to ask about devices.
pub(crate) fn prober() -> Result<Prober, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::new("device-unusable", Exit::Run, "this program cannot find its own file")
            .because(&error)
            .hint("`--device cpu` overrides `train.device` for this run")
    })?;
    let arguments = ["--json", "probe-device"].map(str::to_owned).into();
    Ok(Prober { program, arguments, patience: PROBE_PATIENCE })
}

/// Name and version, as recorded with every run.
pub(crate) const TOOL: &str = concat!("karat ", env!("CARGO_PKG_VERSION"));

struct Shown<'a>(&'a Mutex<Screen>);

impl Observer for Shown<'_> {
    fn observe(&mut self, event: Event) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).event(&event);
    }
}

/// `karat -C DIR`, ready to be pasted.
pub(crate) fn karat_in(dir: &Path) -> String {
    format!("karat -C {}", shell_word(&dir.display().to_string()))
}

/// One word of a POSIX shell, quoted when it needs to be.
pub(crate) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./,:=@%+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::shell_word;

    #[test]
    fn suggested_words_survive_a_shell() {
        for (text, word) in [
            ("jobs/flights", "jobs/flights"),
            ("my jobs", "'my jobs'"),
            ("it's", r"'it'\''s'"),
            ("train.hidden=[8]", "'train.hidden=[8]'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }
}
