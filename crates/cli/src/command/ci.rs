//! `karat ci`: the whole way for a change under review. What judges comes from the base branch, the result goes wherever
//! the CI system looks, and the exit code is the verdict.
//!
//! Reading order: [`run`], `system` (who runs this), `base` (whose words judge), `write` (who is told).

pub(crate) mod base;
mod system;
pub(crate) mod write;

use std::collections::BTreeMap;

use karat_core::{
    Exit, Failure, Finding, Outcome, Project, Schema,
    policy::{Gate, Policy},
};
use karat_pipeline::{AfterPass, CHAMPION, Whole, change, pick_gate};
use karat_store::Access;
use serde_json::json;

use self::{
    base::{Base, Words},
    system::{Occasion, Setting, System},
    write::Told,
};
use crate::{
    args::CiArgs,
    context::{POLICY_FILE, PROJECT_FILE, STATE_DIR, Session, Workshop},
    env,
    git::Repository,
    render::summary,
};

pub(crate) fn run(session: &Session, args: &CiArgs) -> Result<Exit, Failure> {
    let setting = system::detect(&env::ci::variable)?;
    let told = Told::new(session, &setting);
    let done = judged(session, args, &setting, &told);
    if let Err(failure) = &done {
        told.failure(failure);
    }
    done
}

/// What the change is judged with.
struct Bench {
    /// Whether what is judged has been merged: then its data and its first policy are the project's own.
    is_merged: bool,
    project: Project,
    schema: Schema,
    policy: Policy,
    /// Where the rules stand, for annotations.
    places: karat_report::Places,
    /// What the change would have had otherwise.
    findings: Vec<Finding>,
}

fn judged(
    session: &Session,
    args: &CiArgs,
    setting: &Setting,
    told: &Told<'_>,
) -> Result<Exit, Failure> {
    if let Some(typed) = session.common.set.iter().find(|it| it.starts_with("gate.")) {
        return Err(Failure::new(
            "set-invalid",
            Exit::Usage,
            format!("`--set {typed}`: `karat ci` takes the policy from the base branch alone"),
        )
        .hint("a changed gate.toml counts once it is merged"));
    }
    let repository = Repository::of(session.root())?;
    let after = promotion(args, setting, &repository)?;
    let head = repository.commit("HEAD")?.ok_or_else(|| {
        Failure::new(
            "base-unreachable",
            Exit::Usage,
            "the repository has no commit yet: there is no change to judge",
        )
        .hint("`karat run --dry-run` judges the files as they are")
    })?;
    let base = base::find(&repository, setting, args.base.as_deref())?;
    refuse_smuggled(&repository, &head, base.as_ref())?;
    let is_default = matches!(setting.occasion, Occasion::Push { is_default: Some(true), .. });
    let is_merged = is_default || matches!(after, AfterPass::Promote);
    let bench = bench(session, is_merged, &repository, base.as_ref())?;
    let gate = pick_gate(&bench.policy, args.gate.as_ref())?;

    let workshop = session.open(Access::ReadWrite)?;
    say(session, setting, base.as_ref(), &bench, &workshop)?;
    let lab = session.lab(&workshop);
    let whole = whole(session, args, &bench, gate, &lab, &repository, &head, base.as_ref(), after)?;
    told.summary(args.out.as_deref(), &lab, &bench.places, &whole, &head);
    session.json(
        &json!({ "event": "run_finished", "exit": whole.exit.code(), "summary": whole.summary }),
    );
    if let Some(refusal) = whole.refusal {
        return Err(refusal);
    }
    let at = args.out.as_ref().map(|it| session.path(it).join("report.html").display().to_string());
    let paint = session.with_screen(|screen| screen.stdout_paint());
    session.text(&summary::render(&whole.summary, at.as_deref(), &[], paint));
    Ok(whole.exit)
}

/// `--promote` is for what has been merged. A change under review moves nothing, whatever the command line says.
fn promotion(
    args: &CiArgs,
    setting: &Setting,
    repository: &Repository,
) -> Result<AfterPass, Failure> {
    if !args.promote {
        return Ok(AfterPass::Leave);
    }
    let refuse = |why: String| {
        Failure::new("promotion-refused", Exit::Usage, why)
            .detail("nothing was judged, nothing was promoted")
            .hint("`karat ci --promote` belongs in a job that runs on pushes to the default branch alone")
    };
    let (branch, is_default) = match &setting.occasion {
        Occasion::Change { .. } => {
            return Err(refuse("`--promote` on a change that is not merged yet".to_owned()));
        }
        Occasion::Push { branch, is_default, .. } => (branch.clone(), *is_default),
    };
    let is_default = match (setting.system, is_default) {
        (_, Some(known)) => known,
        (System::Shell, None) => {
            let (here, default) = (repository.branch()?, repository.default_branch()?);
            here.is_some() && here == default
        }
        _ => false,
    };
    if is_default {
        return Ok(AfterPass::Promote);
    }
    let what =
        branch.map_or_else(|| "what is checked out".to_owned(), |it| format!("branch `{it}`"));
    Err(refuse(format!("`--promote`: {what} is not known to be the default branch")))
}

/// What a change could bring along to be read in place of what it should be: state, and links out of the repository.
fn refuse_smuggled(
    repository: &Repository,
    head: &str,
    base: Option<&Base>,
) -> Result<(), Failure> {
    if repository.has(head, STATE_DIR)? {
        return Err(Failure::new(
            "store-in-change",
            Exit::Fail,
            format!("the commit holds `{STATE_DIR}`: state, verdicts and ledger come from the store, never from a change"),
        )
        .detail("nothing was judged")
        .hint(format!("`git rm -r --cached {STATE_DIR}`, and `{STATE_DIR}/` in .gitignore")));
    }
    let known = match base {
        Some(base) => repository.links(&base.commit)?,
        None => Vec::new(),
    };
    for (path, object) in repository.links(head)? {
        if known.contains(&(path.clone(), object.clone())) {
            continue;
        }
        let target = repository.link_target(&object)?;
        let judges = [PROJECT_FILE, POLICY_FILE].contains(&path.as_str())
            || path.starts_with("schema/")
            || path.starts_with("snapshots/");
        if judges || leads_out(&format!("{}{path}", repository.prefix), &target) {
            return Err(Failure::new(
                "link-in-change",
                Exit::Fail,
                format!("`{path}` is a link to `{target}`, new in this change"),
            )
            .detail("a change brings files, not links to what lies elsewhere; nothing was read through it")
            .hint("commit the file itself, or have the link merged on its own first"));
        }
    }
    Ok(())
}

/// Whether a link at `path` of the repository leads out of it.
fn leads_out(path: &str, target: &str) -> bool {
    if target.starts_with(['/', '\\']) || target.contains(':') {
        return true;
    }
    let mut depth = path.matches('/').count();
    for part in target.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// Project, schema and policy: the change's where it may choose, the base's where it is judged.
fn bench(
    session: &Session,
    is_merged: bool,
    repository: &Repository,
    base: Option<&Base>,
) -> Result<Bench, Failure> {
    let project = session.project_to_compute()?;
    let words = base.map(|base| Words { repository, base });
    let policy = words.as_ref().map(Words::policy).transpose()?.flatten();
    let policy_path = format!("{}{POLICY_FILE}", repository.prefix);
    let places = |document: &karat_core::Document, policy: &Policy| karat_report::Places {
        policy: policy_path.clone(),
        project: format!("{}{PROJECT_FILE}", repository.prefix),
        lines: write::rule_lines(document, policy),
    };
    let (Some(words), Some((policy, document))) = (&words, policy) else {
        return first(session, is_merged, project, base, places);
    };
    let mut findings = Vec::new();
    match session.policy() {
        Ok(own) if own.digest == policy.digest => {}
        Ok(_) => findings.push(change::ignored(
            change::POLICY,
            POLICY_FILE,
            "the change edits the policy",
        )),
        Err(failure) => findings.push(change::ignored(
            change::POLICY,
            POLICY_FILE,
            &format!("the change's policy cannot be read ({})", failure.message),
        )),
    }
    let (project, schema) = match words.project()? {
        None => {
            let schema = session.schema(&project, &project.train.dataset)?;
            (project, schema)
        }
        Some(base_project) => {
            let (project, edits) = change::project_under_base(&base_project, &project)?;
            findings.extend(edits);
            let own = session.schema(&project, &project.train.dataset)?;
            let path = &project.dataset(&project.train.dataset)?.schema;
            let schema = match words.schema(path)? {
                None => own,
                Some(base_schema) => {
                    let (schema, edits) = change::schema_under_base(&base_schema, &own);
                    findings.extend(edits);
                    schema
                }
            };
            (project, schema)
        }
    };
    let places = places(&document, &policy);
    Ok(Bench { is_merged, project, schema, policy, places, findings })
}

/// Where the base has no policy. A pushed commit brings the first one, and whoever merged it has read it; a change under
/// review would be judging itself.
fn first(
    session: &Session,
    is_merged: bool,
    project: Project,
    base: Option<&Base>,
    places: impl Fn(&karat_core::Document, &Policy) -> karat_report::Places,
) -> Result<Bench, Failure> {
    if let (false, Some(base)) = (is_merged, base) {
        return Err(Failure::new(
            "policy-absent",
            Exit::Nothing,
            format!("{} ({}) has no `{POLICY_FILE}` for this project: there is nothing to judge by", base.name, &base.commit[..8]),
        )
        .detail("a change is not judged by a policy that it brings itself")
        .hint("merge `gate.toml` and `karat.toml` in a change of their own; later ones are judged by it"));
    }
    let (policy, document) = session.policy_document()?;
    let schema = session.schema(&project, &project.train.dataset)?;
    let finding = Finding::new(
        change::POLICY,
        POLICY_FILE,
        Outcome::Warn,
        "as on the base branch",
        "nothing stands before this commit: it is judged by the policy that it brings",
    );
    let places = places(&document, &policy);
    Ok(Bench { is_merged, project, schema, policy, places, findings: vec![finding] })
}

/// Two or three lines: where this runs, whose words judge, and whether the store was found.
fn say(
    session: &Session,
    setting: &Setting,
    base: Option<&Base>,
    bench: &Bench,
    workshop: &Workshop,
) -> Result<(), Failure> {
    let model = &bench.project.train.name;
    let n_versions = workshop.store.versions(model)?.len();
    let champion = CHAMPION.parse().ok().map(|it| workshop.store.alias(model, &it)).transpose()?;
    let store = match (n_versions, champion.flatten()) {
        (0, _) => format!(
            "empty: no version of `{model}` was restored, so there is no champion to compare with"
        ),
        (n, None) => format!("restored: {n} versions of `{model}`, none of them champion"),
        (n, Some(it)) => {
            format!("restored: {n} versions, {model}@{CHAMPION} -> {model}@{}", it.version)
        }
    };
    let occasion = match &setting.occasion {
        Occasion::Change { target, .. } => {
            format!("a change for `{}`", target.as_deref().unwrap_or("an unnamed branch"))
        }
        Occasion::Push { branch, .. } => {
            format!(
                "a push to {}",
                branch
                    .as_ref()
                    .map_or_else(|| "what is checked out".to_owned(), |it| format!("`{it}`"))
            )
        }
    };
    let from = base.map_or_else(
        || "none: this is the first commit".to_owned(),
        |it| format!("{} at {}", it.name, &it.commit[..8]),
    );
    session.text(&format!(
        "ci       {}, {occasion}\nbase     {from}\nstore    {store}",
        setting.system.title()
    ));
    for finding in &bench.findings {
        session.found(finding);
    }
    session.json(&json!({
        "event": "ci_started",
        "system": setting.system.word(),
        "is_change": matches!(setting.occasion, Occasion::Change { .. }),
        "base": base.map(|it| &it.commit),
        "n_versions": n_versions,
    }));
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "who judges whom, by what, on which rows: each is asked for"
)]
fn whole(
    session: &Session,
    args: &CiArgs,
    bench: &Bench,
    gate: &Gate,
    lab: &karat_pipeline::Lab<'_>,
    repository: &Repository,
    head: &str,
    base: Option<&Base>,
    after: AfterPass,
) -> Result<Whole, Failure> {
    let mut observer = session.observer();
    let Bench { project, schema, policy, findings, .. } = bench;
    let dataset = project.dataset(&project.train.dataset)?;
    let frozen = lab.freeze(&mut observer, dataset, schema.clone())?;
    let now = &frozen.located.snapshot;
    let pointer = |commit: &str, name: &str| {
        let base = Base { commit: commit.to_owned(), name: name.to_owned() };
        let words = Words { repository, base: &base };
        Ok::<_, Failure>(
            words.pointer(&dataset.name)?.map(|it| it.snapshot(&dataset.name, schema.digest())),
        )
    };
    if let Some(pointer) = pointer(head, "HEAD")? {
        change::refuse_stale(&pointer, now)?;
    }
    let before = base.map(|it| pointer(&it.commit, &it.name)).transpose()?.flatten();
    let mut own = findings.clone();
    let mut refusal = None;
    // What was merged is the base of the next change: only a change under review is asked.
    if let Some(before) = before.filter(|_| !bench.is_merged) {
        let mut finding = change::data_since_base(&before, now);
        if finding.outcome == Outcome::Fail && args.data_may_change {
            finding.outcome = Outcome::Warn;
        }
        session.found(&finding);
        if finding.outcome == Outcome::Fail {
            refusal = Some(changed_data(&finding));
        }
        own.push(finding);
    }
    if let Some(refusal) = refusal {
        let mut checked = lab.check(&mut observer, project, &frozen)?;
        checked.findings.splice(0..0, own);
        let summary = lab.summary(project, &frozen, &checked);
        let (exit, outputs) = (refusal.exit, BTreeMap::new());
        return Ok(Whole { summary, exit, refusal: Some(refusal), outputs, frozen });
    }
    let mut whole = lab.run(&mut observer, project, schema.clone(), policy, gate, after)?;
    whole.summary.checks.splice(0..0, own);
    if let Some(promotion) = whole.summary.promotion.as_mut()
        && whole.exit == Exit::Pass
        && matches!(after, AfterPass::Leave)
    {
        promotion.reason = "left as it is: a change under review moves nothing".to_owned();
    }
    Ok(whole)
}

pub(crate) fn changed_data(finding: &Finding) -> Failure {
    let mut failure = Failure::new("evaluation-changed", Exit::Fail, finding.message.clone());
    for path in &finding.examples {
        failure = failure.detail(format!("altered or removed: {path}"));
    }
    failure.detail("nothing was trained").hint(finding.advice.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::leads_out;

    #[test]
    fn a_link_leads_out_when_it_climbs_above_the_repository() {
        for (path, target, expected) in [
            ("a", "b", false),
            ("data/a.csv", "../shared/a.csv", false),
            ("data/a.csv", "../../a.csv", true),
            ("data/a.csv", "b/../../c/../../x", true),
            ("a", "/etc/passwd", true),
            ("a", "..", true),
            ("a/b", "..", false),
            ("a", "C:\\x", true),
        ] {
            assert_eq!(leads_out(path, target), expected, "{path} -> {target}");
        }
    }
}
