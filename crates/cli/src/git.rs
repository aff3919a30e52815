//! The `git` program, asked about history. Nothing of a change under review is run by asking: no shell, no option from
//! outside, no pager, hook or file-system monitor, no repository that a checkout smuggles in.
//!
//! Reading order: [`Repository::of`], [`Repository::commit`], [`Repository::file`].

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use karat_core::{Exit, Failure, document::DOCUMENT_BYTES_MAX};

/// How long one question may take. A partial clone fetches what it is asked for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a running question is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// Bytes of an answer that are read: paths of a large repository.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Longest name of a branch that is looked for.
const REF_LEN_MAX: usize = 255;

/// Where a caller may have pointed git to: a hook runs with these set for its own repository.
const UNSET: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_EXTERNAL_DIFF",
];

/// Before every question. A bare repository inside a checkout is files of the change, not a repository.
const ALWAYS: [&str; 9] = [
    "--no-pager",
    "--no-optional-locks",
    "--literal-pathspecs",
    "-c",
    "safe.bareRepository=explicit",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
];

/// The repository that a project lies in.
#[derive(Debug)]
pub(crate) struct Repository {
    /// The project's folder: git is asked from there.
    dir: PathBuf,
    /// The project's folder inside the repository, empty or ending in `/`.
    pub(crate) prefix: String,
}

struct Answer {
    is_success: bool,
    stdout: Vec<u8>,
    stderr: String,
}

impl Repository {
    /// The repository around `dir`.
    pub(crate) fn of(dir: &Path) -> Result<Self, Failure> {
        let mut repository = Self { dir: dir.to_owned(), prefix: String::new() };
        let answer = repository.ask(&["rev-parse", "--show-prefix"])?;
        if answer.is_success {
            let prefix = String::from_utf8_lossy(&answer.stdout).trim_end_matches('\n').to_owned();
            repository.prefix = prefix;
            return Ok(repository);
        }
        let place = dir.display();
        if answer.stderr.contains("dubious ownership") {
            return Err(Failure::new(
                "repository-untrusted",
                Exit::Usage,
                format!("git does not read the repository of `{place}`: it belongs to another user"),
            )
            .detail("usual in a container, where the checkout was made outside of it")
            .hint("`git config --global --add safe.directory \"$PWD\"` in the repository's folder, if you trust it"));
        }
        Err(Failure::new(
            "repository-absent",
            Exit::Usage,
            format!("`{place}` lies in no git repository"),
        )
        .detail(first_line(&answer.stderr))
        .hint("`karat ci` judges a change against its base branch: check the project out with git")
        .hint(
            "`karat run --dry-run` judges without a base branch, under the project's own gate.toml",
        ))
    }

    /// The commit that `name` means; `None` when it is not here. A name from outside is asked for as part of a longer one
    /// or after `--end-of-options`: none is an option.
    pub(crate) fn commit(&self, name: &str) -> Result<Option<String>, Failure> {
        let name = format!("{name}^{{commit}}");
        let answer = self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name])?;
        let text = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        Ok(Some(text).filter(|it| answer.is_success && is_commit(it)))
    }

    /// Whether history was cut off when this was cloned.
    pub(crate) fn is_shallow(&self) -> Result<bool, Failure> {
        let answer = self.ask(&["rev-parse", "--is-shallow-repository"])?;
        Ok(answer.stdout.starts_with(b"true"))
    }

    /// The branch that is checked out; `None` when it is a commit.
    pub(crate) fn branch(&self) -> Result<Option<String>, Failure> {
        self.short(&["symbolic-ref", "--quiet", "--short", "HEAD"])
    }

    /// The branch that the remote calls its own: `main`.
    pub(crate) fn default_branch(&self) -> Result<Option<String>, Failure> {
        let name =
            self.short(&["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"])?;
        Ok(name.and_then(|it| it.strip_prefix("origin/").map(str::to_owned)))
    }

    fn short(&self, question: &[&str]) -> Result<Option<String>, Failure> {
        let answer = self.ask(question)?;
        let text = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        Ok(Some(text).filter(|it| answer.is_success && !it.is_empty()))
    }

    /// A text file of the project as `commit` has it; `None` when it has none. Links are not followed: git stores where
    /// they lead, and that is what would be read.
    pub(crate) fn file(&self, commit: &str, path: &str) -> Result<Option<String>, Failure> {
        let object = format!("{commit}:{}{path}", self.prefix);
        let size = self.ask(&["cat-file", "-s", &object])?;
        if !size.is_success {
            return Ok(None);
        }
        let n_bytes: usize =
            String::from_utf8_lossy(&size.stdout).trim().parse().unwrap_or(usize::MAX);
        if DOCUMENT_BYTES_MAX < n_bytes {
            return Err(Failure::new(
                "config-too-large",
                Exit::Usage,
                format!(
                    "`{path}` of commit {} has {n_bytes} bytes, at most {DOCUMENT_BYTES_MAX} are read",
                    &commit[..8]
                ),
            ));
        }
        let text = self.ask(&["cat-file", "blob", &object])?;
        if !text.is_success {
            return Ok(None);
        }
        String::from_utf8(text.stdout).map(Some).map_err(|error| {
            Failure::new(
                "config-unreadable",
                Exit::Usage,
                format!("`{path}` of commit {} is not UTF-8", &commit[..8]),
            )
            .because(&error)
        })
    }

    /// Whether the commit has anything at `path` of the project.
    pub(crate) fn has(&self, commit: &str, path: &str) -> Result<bool, Failure> {
        Ok(!self.tree(commit, path)?.is_empty())
    }

    /// The links below the project in `commit`: path from the project's folder, and the object that says where it leads.
    pub(crate) fn links(&self, commit: &str) -> Result<Vec<(String, String)>, Failure> {
        let links = self.tree(commit, "")?.into_iter().filter(|it| it.0 == "120000");
        Ok(links.map(|(_, object, path)| (path, object)).collect())
    }

    /// Where a link leads.
    pub(crate) fn link_target(&self, object: &str) -> Result<String, Failure> {
        let answer = self.ask(&["cat-file", "blob", object])?;
        Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
    }

    /// Mode, object and path of every file of `commit` below `path` of the project.
    fn tree(&self, commit: &str, path: &str) -> Result<Vec<(String, String, String)>, Failure> {
        let full = format!("{}{path}", self.prefix);
        let mut question = vec!["ls-tree", "-r", "-z", "--full-tree", commit];
        if !full.is_empty() {
            question.extend(["--", full.as_str()]);
        }
        let answer = self.ask(&question)?;
        if !answer.is_success {
            return Err(failed(&question, first_line(&answer.stderr)));
        }
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let entries = text.split('\0').filter_map(|line| {
            let (head, path) = line.split_once('\t')?;
            let mut words = head.split(' ');
            let (mode, object) = (words.next()?, words.nth(1)?);
            let path = path.strip_prefix(&self.prefix).unwrap_or(path);
            Some((mode.to_owned(), object.to_owned(), path.to_owned()))
        });
        Ok(entries.collect())
    }

    fn ask(&self, question: &[&str]) -> Result<Answer, Failure> {
        let mut command = Command::new("git");
        command.current_dir(&self.dir).args(ALWAYS).args(question);
        for name in UNSET {
            command.env_remove(name);
        }
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            Failure::new("git-absent", Exit::Run, "cannot start the program `git`")
                .because(&error)
                .hint("`karat ci` reads the base branch with git: install it, or put it on PATH")
        })?;
        let stdout = collected(child.stdout.take());
        let stderr = collected(child.stderr.take());
        let is_success = wait(&mut child, question)?;
        Ok(Answer {
            is_success,
            stdout: stdout.join().unwrap_or_default(),
            stderr: String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned(),
        })
    }
}

/// Reads a pipe to its end beside the waiting, so that a full pipe stops nobody.
fn collected(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            let _ = pipe.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
        }
        bytes
    })
}

fn wait(child: &mut Child, question: &[&str]) -> Result<bool, Failure> {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if started.elapsed() < PATIENCE => std::thread::sleep(LOOK),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                let why = format!("no answer within {} s", PATIENCE.as_secs());
                return Err(failed(question, why));
            }
            Err(error) => return Err(failed(question, error.to_string())),
        }
    }
}

fn failed(question: &[&str], why: String) -> Failure {
    let words: Vec<&str> = question.iter().take(3).copied().collect();
    Failure::new("git-failed", Exit::Run, format!("`git {} …` failed", words.join(" "))).detail(why)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("fatal: ").to_owned()
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|it| it.is_ascii_hexdigit())
}

/// A branch's name from outside, if it can be one (`git check-ref-format`): what could be an option, a range, a revision
/// expression or a path is refused.
pub(crate) fn branch_name(text: &str) -> Result<&str, Failure> {
    let is_odd = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let has_odd_part = text.split('/').any(|part| {
        part.is_empty() || part.starts_with('.') || part.ends_with(".lock") || part.ends_with('.')
    });
    if text.len() <= REF_LEN_MAX
        && !text.starts_with('-')
        && text != "@"
        && !text.contains(is_odd)
        && !text.contains("..")
        && !text.contains("@{")
        && !has_odd_part
    {
        return Ok(text);
    }
    let shown: String = text.chars().take(80).collect();
    Err(Failure::new(
        "ref-invalid",
        Exit::Usage,
        format!("`{shown}` cannot be the name of a branch"),
    )
    .detail("expected as `git check-ref-format --branch` allows, without a leading `-`"))
}

#[cfg(test)]
mod tests {
    use super::branch_name;

    #[test]
    fn what_git_would_take_for_something_else_is_no_branch() {
        for good in ["main", "release/1.2", "feature/ünïcode", "a-b_c.d", "x@y", "$(id)", "a;b`c`"]
        {
            assert_eq!(branch_name(good).ok(), Some(good), "{good}");
        }
        for bad in [
            "",
            "-",
            "--upload-pack=touch pwned",
            "--upload-pack=x",
            "a..b",
            "main~1",
            "main^{tree}",
            "a:b",
            "refs/../x",
            "/main",
            "main/",
            "a//b",
            ".hidden",
            "x.lock",
            "x/.y",
            "@",
            "a@{1}",
            "a b",
            "a\nb",
            "x.",
            &"x".repeat(256),
        ] {
            assert!(branch_name(bad).is_err(), "{bad}");
        }
    }
}
