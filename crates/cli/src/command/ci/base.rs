//! The commit whose words judge, and what it says.

use karat_core::{Document, Exit, Failure, Name, Project, Schema, policy::Policy, schema};
use karat_pipeline::change::Pointer;

use super::system::{Occasion, Setting};
use crate::{
    context::{POLICY_FILE, PROJECT_FILE},
    git::{Repository, branch_name},
};

/// A commit, and how it was found.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// All hex digits.
    pub(crate) commit: String,
    /// `origin/main`, `the commit before`.
    pub(crate) name: String,
}

/// Finds the base. `None`: this is the first commit, and nothing stands before it.
pub(super) fn find(
    repository: &Repository,
    setting: &Setting,
    typed: Option<&str>,
) -> Result<Option<Base>, Failure> {
    match &setting.occasion {
        Occasion::Change { target, commit } => {
            let mut tried = Vec::new();
            if let Some(target) = target {
                // The branch as it is now: a change that left it long ago is judged by today's words.
                let name = format!("refs/remotes/origin/{}", branch_name(target)?);
                if let Some(commit) = repository.commit(&name)? {
                    return Ok(Some(Base { commit, name: format!("origin/{target}") }));
                }
                tried.push(format!("`{name}`"));
            }
            if let Some(commit) = commit {
                if let Some(commit) = repository.commit(branch_name(commit)?)? {
                    let name = target.clone().unwrap_or_else(|| "the target branch".to_owned());
                    return Ok(Some(Base { commit, name: format!("{name}, as the event says") }));
                }
                tried.push(format!("commit {}", shown(commit)));
            }
            match typed {
                Some(typed) => by_hand(repository, setting, typed).map(Some),
                None => Err(unreachable(repository, setting, &tried)?),
            }
        }
        Occasion::Push { before, branch, is_default, default } => {
            if let Some(typed) = typed {
                return by_hand(repository, setting, typed).map(Some);
            }
            // A branch that is not the default one is a change that has no request yet.
            if *is_default == Some(false)
                && branch.is_some()
                && let Some(default) = default
                && let Some(commit) =
                    repository.commit(&format!("refs/remotes/origin/{}", branch_name(default)?))?
            {
                return Ok(Some(Base { commit, name: format!("origin/{default}") }));
            }
            if let Some(before) = before
                && let Some(commit) = repository.commit(branch_name(before)?)?
            {
                return Ok(Some(Base { commit, name: "the commit before the push".to_owned() }));
            }
            if let Some(commit) = repository.commit("HEAD^")? {
                return Ok(Some(Base { commit, name: "the commit before".to_owned() }));
            }
            if repository.is_shallow()? {
                return Err(unreachable(repository, setting, &["`HEAD^`".to_owned()])?);
            }
            Ok(None)
        }
    }
}

/// `--base REF`.
fn by_hand(repository: &Repository, setting: &Setting, typed: &str) -> Result<Base, Failure> {
    match repository.commit(typed)? {
        Some(commit) => Ok(Base { commit, name: typed.to_owned() }),
        None => Err(unreachable(repository, setting, &[format!("`{}`", shown(typed))])?),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn unreachable(
    repository: &Repository,
    setting: &Setting,
    tried: &[String],
) -> Result<Failure, Failure> {
    let failure = Failure::new(
        "base-unreachable",
        Exit::Usage,
        if tried.is_empty() {
            "nothing says which branch the change is to be merged into".to_owned()
        } else {
            format!("the base branch is not in this clone: looked for {}", tried.join(" and "))
        },
    )
    .detail("the policy that judges a change is read from there; nothing was judged");
    if tried.is_empty() {
        return Ok(failure.hint("`karat ci --base REF` names it"));
    }
    let failure = if repository.is_shallow()? {
        failure.detail("the clone is shallow: its history was cut off")
    } else {
        failure
    };
    Ok(failure.hint(setting.system.depth_hint()))
}

/// What a commit says of a project.
pub(crate) struct Words<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) base: &'a Base,
}

impl Words<'_> {
    /// A file of the commit, under a name that says where it is from.
    pub(crate) fn document(&self, path: &str) -> Result<Option<Document>, Failure> {
        let Some(text) = self.repository.file(&self.base.commit, path)? else { return Ok(None) };
        Document::parse(format!("{path} of {}", &self.base.commit[..8]), text).map(Some)
    }

    pub(crate) fn policy(&self) -> Result<Option<(Policy, Document)>, Failure> {
        let Some(document) = self.document(POLICY_FILE)? else { return Ok(None) };
        Ok(Some((Policy::read(&document)?, document)))
    }

    pub(crate) fn project(&self) -> Result<Option<Project>, Failure> {
        self.document(PROJECT_FILE)?.map(|it| Project::read(&it)).transpose()
    }

    pub(crate) fn schema(&self, path: &str) -> Result<Option<Schema>, Failure> {
        self.document(path)?.map(|it| schema::read(&it)).transpose()
    }

    pub(crate) fn pointer(&self, dataset: &Name) -> Result<Option<Pointer>, Failure> {
        let path = format!("snapshots/{dataset}.toml");
        self.document(&path)?.map(|it| Pointer::read(&it)).transpose()
    }
}
