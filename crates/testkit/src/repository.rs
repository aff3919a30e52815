//! A sandbox with a git history of its own, for tests of changes under review.

use std::process::Command;

use crate::{Sandbox, sandbox::Ran};

impl Sandbox {
    /// Runs `git` in the folder and fails the test unless it succeeds; gives what it printed.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(self.path()).args([
            "-c",
            "user.name=tester",
            "-c",
            "user.email=t@example.org",
        ]);
        // Nothing of the machine's own settings, and the same commit ids every time.
        command
            .args(["-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"])
            .args(arguments);
        command.env("HOME", self.path()).env("GIT_CONFIG_NOSYSTEM", "1");
        for name in ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
            command.env(name, "2024-01-01T00:00:00Z");
        }
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
            command.env_remove(name);
        }
        let output = command.output().expect("git is installed where tests run");
        let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {printed}\n{complaint}");
        printed
    }

    /// Commits everything in the folder that is not ignored; gives the commit.
    #[track_caller]
    pub fn commit(&self, message: &str) -> String {
        let _ = self.git(&["add", "--all"]);
        let _ = self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// [`Sandbox::trained`] in a repository: `main` is at the remote too, its policy judges, `churn@1` is champion, and a
    /// branch `change` is checked out.
    #[must_use]
    pub fn reviewed(binary: &str) -> Self {
        let sandbox = Self::churn(binary);
        sandbox.write(".gitignore", ".karat/\nout/\nseen/\nelsewhere/\n*.log\n");
        let _ = sandbox.karat("run").expect_code(0);
        let _ = sandbox.git(&["init", "--quiet"]);
        let _ = sandbox.commit("the base");
        let _ = sandbox.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
        let _ = sandbox.git(&["checkout", "--quiet", "-b", "change"]);
        sandbox
    }

    /// `karat LINE` with these variables, as a CI system would run it.
    #[must_use]
    pub fn karat_with(&self, line: &str, variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command(line);
        command.envs(variables.iter().copied());
        Ran::from(command.output().expect("the binary under test starts"))
    }
}
