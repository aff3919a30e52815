//! The binary in a folder of its own: type a command, look at its exit code and its words.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// A temporary folder and the binary under test.
pub struct Sandbox {
    binary: PathBuf,
    folder: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; −1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Sandbox {
    /// An empty folder. `binary` is `env!("CARGO_BIN_EXE_karat")` of the calling test.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        let folder = tempfile::tempdir().expect("the machine has a writable temporary folder");
        Self { binary: binary.into(), folder }
    }

    /// A project on the churn fixture, made by `karat init`, with small settings that train in a moment.
    #[must_use]
    pub fn churn(binary: &str) -> Self {
        let sandbox = Self::new(binary);
        sandbox.write("churn.csv", crate::fixture::churn_csv(crate::fixture::CHURN_ROWS));
        sandbox.karat("init . --name churn --data churn.csv --label churned").expect_code(0);
        sandbox.edit("karat.toml", "hidden = [128, 64]", "hidden = [16]");
        sandbox.edit("karat.toml", "epochs = 30", "epochs = 3");
        sandbox.edit("karat.toml", "batch_size = 128", "batch_size = 64\nlearning_rate = 0.01");
        sandbox
    }

    /// [`Sandbox::churn`] after its first run: `churn@1` is the champion.
    #[must_use]
    pub fn trained(binary: &str) -> Self {
        let sandbox = Self::churn(binary);
        let _ = sandbox.karat("run").expect_code(0);
        sandbox
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, and the folders it lies in.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder"))
            .expect("the sandbox is writable");
        fs::write(path, content).expect("the sandbox is writable");
    }

    /// Reads a text file.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Reads a file.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Replaces the one occurrence of `from` in a text file.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} lacks `{from}`:\n{text}");
        self.write(name, text.replacen(from, to, 1));
    }

    /// A command, its words separated by spaces; a word with spaces stands in single quotes.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the sandbox passes PATH on and nothing else")]
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(self.path()).args(words(line));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // A word that makes burn's hidden default device panic: nothing of ours may rely on it.
        command.env("BURN_DEVICE", "nobody-chose-one");
        command.env("KARAT_ACTOR", "tester").env("HOME", self.path()).stdin(Stdio::null());
        command
    }

    /// Runs `karat LINE` to its end.
    #[must_use]
    pub fn karat(&self, line: &str) -> Ran {
        Ran::from(self.command(line).output().expect("the binary under test starts"))
    }

    /// Starts `karat LINE` and leaves it running.
    #[must_use]
    pub fn start(&self, line: &str) -> Child {
        self.command(line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary under test starts")
    }

    /// Where an alias points, as `karat alias --json` says; `None` when it does not exist.
    #[must_use]
    pub fn alias(&self, name: &str) -> Option<u64> {
        let ran = self.karat("alias --json");
        ran.json().into_iter().find(|it| it["alias"] == name).and_then(|it| it["version"].as_u64())
    }

    /// The stored objects, as paths.
    #[must_use]
    pub fn objects(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path().join(".karat/objects")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => found.push(path),
                }
            }
        }
        found.sort();
        found
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Fails the test unless the exit code is `code`; gives itself back for more questions.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless stderr names this error code and contains every one of `facts`.
    #[track_caller]
    pub fn expect_error(self, code: &str, facts: &[&str]) -> Self {
        let head = format!("error[{code}]: ");
        assert!(self.stderr.contains(&head), "no `{head}` in\n{}", self.stderr);
        for fact in facts {
            assert!(self.stderr.contains(fact), "no `{fact}` in\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// stdout as JSON lines.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`"))
            })
            .collect()
    }
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
