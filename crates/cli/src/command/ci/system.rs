//! Which CI system this runs on and what it runs for, by the variables that the system documents.
//!
//! Sources: docs.github.com/actions/reference/workflows-and-actions/variables, docs.gitlab.com/ci/variables/predefined_variables,
//! and the environment page of a Jenkins server (`/env-vars.html`).

use std::path::PathBuf;

use karat_core::{Exit, Failure};
use serde_json::Value;

use crate::env::ci as names;

/// Largest event file that is read, bytes.
const EVENT_BYTES_MAX: u64 = 16 << 20;

/// Who runs this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    GitHub,
    GitLab,
    Jenkins,
    Shell,
}

impl System {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::GitHub => "GitHub Actions",
            Self::GitLab => "GitLab CI",
            Self::Jenkins => "Jenkins",
            Self::Shell => "a shell",
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Jenkins => "jenkins",
            Self::Shell => "shell",
        }
    }

    /// How a checkout there gets the whole history.
    pub(super) const fn depth_hint(self) -> &'static str {
        match self {
            Self::GitHub => {
                "`fetch-depth: 0` under `with:` of actions/checkout fetches every branch and its history"
            }
            Self::GitLab => {
                "`GIT_DEPTH: 0` under `variables:` of the job fetches the history; ci/hooks/gitlab/karat.yml also fetches the target branch"
            }
            Self::Jenkins => {
                "switch `Shallow clone` off in the job's clone behaviours, or run `git fetch --unshallow origin`"
            }
            Self::Shell => {
                "`git fetch --unshallow origin` fetches the history; `git fetch origin BRANCH` one branch"
            }
        }
    }
}

/// What it runs for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Commits that somebody wants to have merged.
    Change {
        /// The branch they are to be merged into.
        target: Option<String>,
        /// A commit of it, as the system says.
        commit: Option<String>,
    },
    /// Commits that are on a branch.
    Push {
        /// The commit before them.
        before: Option<String>,
        /// The branch; `None` for a tag or a bare commit.
        branch: Option<String>,
        /// Whether it is the default branch; `None` where the system does not say.
        is_default: Option<bool>,
        /// The default branch's name, where the system says it.
        default: Option<String>,
    },
}

/// System and occasion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) system: System,
    pub(super) occasion: Occasion,
    /// Address of this run's page.
    pub(super) page: Option<String>,
}

/// Looks at the variables. Only the event file of GitHub is opened.
pub(super) fn detect(variable: &dyn Fn(&str) -> Option<String>) -> Result<Setting, Failure> {
    let is = |name: &str| variable(name).as_deref() == Some("true");
    if is(names::GITHUB_ACTIONS) {
        let event = event(variable(names::GITHUB_EVENT_PATH).map(PathBuf::from))?;
        return github(variable, &event);
    }
    if is(names::GITLAB_CI) {
        return Ok(gitlab(variable));
    }
    if variable(names::JENKINS_URL).is_some() {
        return Ok(jenkins(variable));
    }
    let occasion = Occasion::Push { before: None, branch: None, is_default: None, default: None };
    Ok(Setting { system: System::Shell, occasion, page: None })
}

fn event(path: Option<PathBuf>) -> Result<Value, Failure> {
    let Some(path) = path else { return Ok(Value::Null) };
    let refuse = |error: &dyn std::error::Error| {
        Failure::new(
            "event-unreadable",
            Exit::Usage,
            format!(
                "cannot read the event at `{}`, which {} names",
                path.display(),
                names::GITHUB_EVENT_PATH
            ),
        )
        .detail(error.to_string())
    };
    let n_bytes = std::fs::metadata(&path).map_err(|error| refuse(&error))?.len();
    if EVENT_BYTES_MAX < n_bytes {
        let message = format!(
            "the event at `{}` has {n_bytes} bytes, at most {EVENT_BYTES_MAX} are read",
            path.display()
        );
        return Err(Failure::new("event-unreadable", Exit::Usage, message));
    }
    let bytes = std::fs::read(&path).map_err(|error| refuse(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| refuse(&error))
}

fn github(variable: &dyn Fn(&str) -> Option<String>, event: &Value) -> Result<Setting, Failure> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let name = variable(names::GITHUB_EVENT_NAME).unwrap_or_default();
    let branch_of = |it: String| it.strip_prefix("refs/heads/").map(str::to_owned);
    let occasion = match name.as_str() {
        "pull_request_target" | "workflow_run" => {
            return Err(Failure::new(
                "event-unsafe",
                Exit::Usage,
                format!("`karat ci` does not run a change on the event `{name}`"),
            )
            .detail("such a workflow holds the base repository's secrets, and the change's files would be read with them in reach")
            .hint("judge on `pull_request` (ci/hooks/github/judge.yml), and take its result from there with `karat judge` (publish.yml)"));
        }
        "pull_request" => Occasion::Change {
            target: variable(names::GITHUB_BASE_REF).or_else(|| text("/pull_request/base/ref")),
            commit: text("/pull_request/base/sha"),
        },
        "merge_group" => Occasion::Change {
            target: text("/merge_group/base_ref").and_then(branch_of),
            commit: text("/merge_group/base_sha"),
        },
        _ if variable(names::GITHUB_BASE_REF).is_some() => {
            Occasion::Change { target: variable(names::GITHUB_BASE_REF), commit: None }
        }
        _ => {
            let branch = variable(names::GITHUB_REF).and_then(branch_of);
            let default = text("/repository/default_branch");
            Occasion::Push {
                before: text("/before").filter(|it| is_there(it)),
                is_default: default.as_ref().map(|it| branch.as_ref() == Some(it)),
                branch,
                default,
            }
        }
    };
    let page = (|| {
        let (server, repository, run) = (
            variable(names::GITHUB_SERVER_URL)?,
            variable(names::GITHUB_REPOSITORY)?,
            variable(names::GITHUB_RUN_ID)?,
        );
        Some(format!("{server}/{repository}/actions/runs/{run}"))
    })();
    Ok(Setting { system: System::GitHub, occasion, page })
}

fn gitlab(variable: &dyn Fn(&str) -> Option<String>) -> Setting {
    let target = variable(names::CI_MERGE_REQUEST_TARGET_BRANCH_NAME);
    let occasion = if target.is_some() || variable(names::CI_MERGE_REQUEST_IID).is_some() {
        Occasion::Change { target, commit: variable(names::CI_MERGE_REQUEST_DIFF_BASE_SHA) }
    } else {
        let (branch, default) =
            (variable(names::CI_COMMIT_BRANCH), variable(names::CI_DEFAULT_BRANCH));
        Occasion::Push {
            before: variable(names::CI_COMMIT_BEFORE_SHA).filter(|it| is_there(it)),
            is_default: default.as_ref().map(|it| branch.as_ref() == Some(it)),
            branch,
            default,
        }
    };
    Setting { system: System::GitLab, occasion, page: variable(names::GITLAB_PAGE) }
}

fn jenkins(variable: &dyn Fn(&str) -> Option<String>) -> Setting {
    let target = variable(names::CHANGE_TARGET);
    let occasion = if target.is_some() || variable(names::CHANGE_ID).is_some() {
        Occasion::Change { target, commit: None }
    } else {
        Occasion::Push {
            before: variable(names::GIT_PREVIOUS_COMMIT).filter(|it| is_there(it)),
            branch: variable(names::BRANCH_NAME),
            is_default: variable(names::BRANCH_IS_PRIMARY).map(|it| it == "true"),
            default: None,
        }
    };
    Setting { system: System::Jenkins, occasion, page: variable(names::BUILD_URL) }
}

/// Systems write zeros for "there was none".
fn is_there(commit: &str) -> bool {
    commit.chars().any(|it| it != '0')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::{Occasion, Setting, System, detect, github};

    fn of(pairs: &[(&str, &str)]) -> Setting {
        let map: BTreeMap<&str, &str> = pairs.iter().copied().collect();
        detect(&|name| map.get(name).map(|it| (*it).to_owned())).expect("a known setting")
    }

    fn of_event(name: &str, reference: &str, event: &Value) -> Occasion {
        let variable = |asked: &str| match asked {
            "GITHUB_EVENT_NAME" => Some(name.to_owned()),
            "GITHUB_REF" => Some(reference.to_owned()),
            _ => None,
        };
        github(&variable, event).expect("a known event").occasion
    }

    fn change(target: &str, commit: Option<&str>) -> Occasion {
        Occasion::Change { target: Some(target.to_owned()), commit: commit.map(str::to_owned) }
    }

    #[test]
    fn each_system_is_known_by_what_it_sets() {
        let github = of(&[
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_EVENT_NAME", "pull_request"),
            ("GITHUB_BASE_REF", "main"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "a/b"),
            ("GITHUB_RUN_ID", "7"),
        ]);
        assert_eq!((github.system, github.occasion), (System::GitHub, change("main", None)));
        assert_eq!(github.page.as_deref(), Some("https://github.com/a/b/actions/runs/7"));
        let gitlab = of(&[
            ("GITLAB_CI", "true"),
            ("CI_MERGE_REQUEST_IID", "3"),
            ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
            ("CI_MERGE_REQUEST_DIFF_BASE_SHA", "abc"),
        ]);
        assert_eq!((gitlab.system, gitlab.occasion), (System::GitLab, change("main", Some("abc"))));
        let jenkins = of(&[("JENKINS_URL", "http://j/"), ("CHANGE_TARGET", "main")]);
        assert_eq!((jenkins.system, jenkins.occasion), (System::Jenkins, change("main", None)));
        assert_eq!(of(&[("CI", "true")]).system, System::Shell);
        assert_eq!(of(&[("GITHUB_ACTIONS", "no")]).system, System::Shell);
    }

    #[test]
    fn a_push_says_its_branch_and_the_commit_before() {
        let push = |branch: &str, before: Option<&str>, is_default| Occasion::Push {
            before: before.map(str::to_owned),
            branch: Some(branch.to_owned()),
            is_default: Some(is_default),
            default: Some("main".to_owned()),
        };
        let event =
            |before: &str| json!({"before": before, "repository": {"default_branch": "main"}});
        let zeros = "0".repeat(40);
        assert_eq!(
            of_event("push", "refs/heads/main", &event("abc")),
            push("main", Some("abc"), true)
        );
        assert_eq!(of_event("push", "refs/heads/dev", &event(&zeros)), push("dev", None, false));
        let tag = of_event("push", "refs/tags/main", &event("abc"));
        assert!(
            matches!(tag, Occasion::Push { branch: None, is_default: Some(false), .. }),
            "{tag:?}"
        );
        let gitlab = of(&[
            ("GITLAB_CI", "true"),
            ("CI_COMMIT_BRANCH", "main"),
            ("CI_DEFAULT_BRANCH", "main"),
            ("CI_COMMIT_BEFORE_SHA", &zeros),
        ]);
        assert_eq!(gitlab.occasion, push("main", None, true));
    }

    #[test]
    fn a_merge_queue_is_a_change_and_a_workflow_with_secrets_is_refused() {
        let event = json!({"merge_group": {"base_ref": "refs/heads/main", "base_sha": "abc"}});
        assert_eq!(of_event("merge_group", "", &event), change("main", Some("abc")));
        for name in ["pull_request_target", "workflow_run"] {
            let variable = |asked: &str| (asked == "GITHUB_EVENT_NAME").then(|| name.to_owned());
            let failure = github(&variable, &Value::Null).expect_err(name);
            assert_eq!(failure.code.as_str(), "event-unsafe");
        }
    }
}
