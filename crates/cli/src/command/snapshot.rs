//! `karat snapshot`: freeze a dataset, update its pointer file.

use karat_core::{Event, Exit, Failure, Name, Observer, Snapshot};
use karat_pipeline::pointer_file;
use karat_store::Access;
use serde_json::json;

use crate::{args::SnapshotArgs, context::Session};

pub(crate) fn run(session: &Session, args: &SnapshotArgs) -> Result<Exit, Failure> {
    let project = session.project()?;
    let names: Vec<&Name> = match &args.dataset {
        Some(name) => vec![&project.dataset(name)?.name],
        None => project.datasets.keys().collect(),
    };
    let workshop = session.open(Access::ReadWrite)?;
    let lab = session.lab(&workshop);
    for name in names {
        let dataset = project.dataset(name)?;
        if args.infer_schema {
            let path = session.root().join(&dataset.schema);
            if path.exists() {
                session.observer().observe(Event::Warned {
                    code: "schema-kept".to_owned(),
                    message: format!(
                        "`{}` exists and was left as it is; remove it to infer it anew",
                        dataset.schema
                    ),
                });
            } else {
                let schema = lab.tables.infer_schema(session.root(), &dataset.files, None)?;
                karat_store::write_durably(&path, schema.to_toml().as_bytes())?;
                session
                    .text(&format!("wrote {}: give one column the role `label`", dataset.schema));
            }
        }
        let schema = session.schema(&project, name)?;
        let frozen = lab.freeze(&mut session.observer(), dataset, schema)?;
        let snapshot = &frozen.located.snapshot;
        let pointer = write_pointer(session, snapshot)?;
        session.text(&format!("{}  {}", snapshot.label(), pointer));
        session.json(&json!({ "snapshot": snapshot.label(), "digest": frozen.digest, "n_rows": snapshot.n_rows }));
    }
    Ok(Exit::Pass)
}

/// Writes `snapshots/<dataset>.toml` when its content changes; returns its name.
pub(crate) fn write_pointer(session: &Session, snapshot: &Snapshot) -> Result<String, Failure> {
    let name = format!("snapshots/{}.toml", snapshot.dataset);
    let path = session.root().join(&name);
    let text = pointer_file(snapshot);
    if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
        karat_store::write_durably(&path, text.as_bytes())?;
    }
    Ok(name)
}
