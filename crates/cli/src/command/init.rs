//! `karat init`: look at a stranger's file and write a project that runs as it stands.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use karat_core::{
    ColumnType, DatasetSpec, Event, Exit, Failure, FeatureKind, Name, Observer, Role, Schema, Task,
    port::{Located, Tables},
    profile::{ColumnProfile, Profile},
    thousands,
};
use karat_table::{ArrowTables, CLASSES_MAX, suggested_task};

use super::init_files::{Found, gate_toml, project_toml, slice_names};
use crate::{
    args::InitArgs,
    context::{POLICY_FILE, PROJECT_FILE, Session, karat_in},
};

/// Values up to which a column is offered as a family of slices.
const SLICE_VALUES_MAX: u64 = 20;
/// Families of slices written.
const SLICE_FAMILIES_MAX: usize = 3;

pub(crate) fn run(session: &Session, args: &InitArgs) -> Result<Exit, Failure> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&session.path(&args.project)),
    };
    let project = session.path(&args.project);
    let schema_file = format!("schema/{name}.toml");
    let project_file = project.join(PROJECT_FILE);
    if project_file.exists() {
        return Err(Failure::new(
            "init-exists",
            Exit::Usage,
            format!("`{}` exists and is not overwritten", project_file.display()),
        )
        .hint("remove it, or name another folder"));
    }
    let data = pattern_from(&project, &session.path(args.data.as_ref()))?;
    let (profile, schema) = look(session, &name, &args.data, &args.label)?;
    let label = schema.expect_column(&args.label, "`--label`")?;
    let counted = profile.columns.iter().find(|it| it.name == label.name);
    refuse_label(&label.name, label.ty, counted)?;
    let task = task_of(label.ty, counted);
    let found = Found {
        name: name.to_string(),
        data,
        label: label.name.clone(),
        label_is_int: label.ty == ColumnType::Int,
        task,
        n_rows: profile.n_rows,
        time: schema.names(Role::Time).next().map(str::to_owned),
        slices: slice_names(slices(&schema, &profile)),
        has_key: schema.keys().next().is_some() || schema.names(Role::Group).next().is_some(),
        is_images: schema.image().is_some() && schema.features().count() == 1,
        label_mean: counted.and_then(|it| it.mean),
    };
    write_or_keep(session, &project.join(&schema_file), &with_header(&schema))?;
    write_or_keep(session, &project.join(POLICY_FILE), &gate_toml(&found))?;
    // Last: a folder with `karat.toml` is a project.
    karat_store::write_durably(&project_file, project_toml(&found).as_bytes())?;

    let (dir, karat) = (project.display(), karat_in(&project));
    let roles = |role: Role| schema.names(role).collect::<Vec<_>>().join(", ");
    let mut lines = vec![format!(
        "{} rows, {} columns, label `{}` ({})",
        thousands(profile.n_rows),
        schema.columns.len(),
        found.label,
        found.task_word()
    )];
    for role in [Role::Key, Role::Time, Role::Group, Role::Weight, Role::Ignore, Role::Feature] {
        let names = roles(role);
        if !names.is_empty() {
            lines.push(format!("  {:<8} {names}", format!("{role:?}").to_lowercase()));
        }
    }
    lines.push(format!("wrote {dir}/{PROJECT_FILE}, {dir}/{POLICY_FILE}, {dir}/{schema_file}"));
    lines.push(format!("next     read {dir}/{schema_file}: mark columns known only after the event with `known_after = true`"));
    lines.push(format!("         {karat} check"));
    lines.push(format!("         {karat} run"));
    session.text(&lines.join("\n"));
    session.json(&serde_json::json!({ "event": "initialised", "project": project, "n_rows": profile.n_rows, "task": found.task }));
    Ok(Exit::Pass)
}

/// A file that an earlier `init` left, or a person wrote, stays as it is. Only `karat.toml` makes a project, so what
/// lies here without it may be what a killed `init` left.
fn write_or_keep(session: &Session, path: &Path, text: &str) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(karat_store::write_durably(path, text.as_bytes())?);
    }
    if std::fs::read(path).ok().as_deref() != Some(text.as_bytes()) {
        session.observer().observe(Event::Warned {
            code: "init-kept".to_owned(),
            message: format!(
                "`{}` exists, differs from what would be written, and was left as it is",
                path.display()
            ),
        });
    }
    Ok(())
}

/// A label that no task can use is refused here, not after a project has been written.
fn refuse_label(
    name: &str,
    ty: ColumnType,
    counted: Option<&ColumnProfile>,
) -> Result<(), Failure> {
    if ty == ColumnType::Time {
        return Err(Failure::new(
            "label-type",
            Exit::Usage,
            format!("label `{name}` has type time, which no task can use"),
        )
        .hint("a label is a class (text, bool, int) or a number; `--label` names another column"));
    }
    match counted {
        Some(it) if ty == ColumnType::Text && (CLASSES_MAX as u64) < it.n_distinct => {
            let at_least = if it.distinct_is_exact { "" } else { "at least " };
            Err(Failure::new(
                "label-classes",
                Exit::Usage,
                format!(
                    "label `{name}` has {at_least}{} classes, at most {} can be told apart",
                    thousands(it.n_distinct),
                    thousands(CLASSES_MAX as u64)
                ),
            )
            .hint("a text that differs in most rows names them; `--label` names another column"))
        }
        _ => Ok(()),
    }
}

/// Counts the data once, in a folder that is gone afterwards: a project that could not be made leaves nothing behind.
fn look(
    session: &Session,
    name: &Name,
    data: &str,
    label: &str,
) -> Result<(Profile, Schema), Failure> {
    let scratch = std::env::temp_dir();
    let tables = ArrowTables::new(session.n_threads(), scratch);
    let here = std::path::absolute(session.root()).map_err(|error| {
        Failure::new("input-invalid", Exit::Usage, "the current folder is gone").because(&error)
    })?;
    let files = vec![data.to_owned()];
    let mut schema = tables.infer_schema(&here, &files, Some(label))?;
    let dataset =
        DatasetSpec { name: name.clone(), files, schema: String::new(), splits: BTreeMap::new() };
    let (snapshot, _) = tables.snapshot(&here, &dataset, &schema, &[], &mut |_, _| {})?;
    let located = Located { snapshot, schema: schema.clone(), dataset, root: here };
    let profile = tables.measure(&located, None, &mut |_, _| {})?;
    for column in &mut schema.columns {
        let Some(counted) = profile.columns.iter().find(|it| it.name == column.name) else {
            continue;
        };
        if column.role == Role::Feature && counted.n_distinct <= 1 {
            column.role = Role::Ignore;
        }
        // Whole numbers with few values are more often codes than quantities only when they are text; left numeric.
        if column.ty == ColumnType::Bool {
            column.kind = Some(FeatureKind::Categorical).filter(|_| column.role == Role::Feature);
        }
    }
    Ok((profile, schema))
}

/// What training will take the label for.
fn task_of(ty: ColumnType, counted: Option<&ColumnProfile>) -> Task {
    let (n, is_exact) = counted.map_or((0, true), |it| (it.n_distinct, it.distinct_is_exact));
    suggested_task(ty, usize::try_from(n).unwrap_or(usize::MAX), is_exact)
}

fn slices(schema: &Schema, profile: &Profile) -> Vec<String> {
    schema
        .columns
        .iter()
        .filter(|it| {
            it.role == Role::Feature && matches!(it.ty, ColumnType::Text | ColumnType::Bool)
        })
        .filter(|it| {
            profile.columns.iter().any(|found| {
                found.name == it.name && (2..=SLICE_VALUES_MAX).contains(&found.n_distinct)
            })
        })
        .map(|it| it.name.clone())
        .take(SLICE_FAMILIES_MAX)
        .collect()
}

fn with_header(schema: &Schema) -> String {
    format!(
        "# Written by `karat init` from what it saw; edit it, it is never overwritten.\n\
         # role: feature, label, key, group, weight, time, ignore.  type: bool, int, float, text, time, image.\n\
         # More constraints: missing_max = 0.01, min = 0, max = 10, domain = [\"a\", \"b\"], unique = true,\n\
         # known_after = true (known only after the event: never a feature), kind = \"categorical\" for numeric codes.\n\n{}",
        schema.to_toml()
    )
}

fn name_of(project: &Path) -> Name {
    let folder = std::path::absolute(project).ok();
    let text =
        folder.as_deref().and_then(Path::file_name).and_then(|it| it.to_str()).unwrap_or("project");
    let plain: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' })
        .collect();
    plain
        .trim_matches('-')
        .parse()
        .unwrap_or_else(|_| "project".parse().expect("a plain word is a name"))
}

/// The data's path as `karat.toml` says it: relative to the project where the data lies inside it, else absolute.
fn pattern_from(project: &Path, data: &Path) -> Result<String, Failure> {
    let refuse = |error: std::io::Error| {
        Failure::new("input-invalid", Exit::Usage, format!("`{}` is not a path", data.display()))
            .because(&error)
    };
    let (project, data): (PathBuf, PathBuf) =
        (std::path::absolute(project).map_err(refuse)?, std::path::absolute(data).map_err(refuse)?);
    let inside = data.strip_prefix(&project).unwrap_or(&data);
    inside.to_str().map(|it| it.replace('\\', "/")).ok_or_else(|| {
        Failure::new(
            "input-invalid",
            Exit::Usage,
            format!("`{}` is not valid UTF-8", inside.display()),
        )
    })
}
