//! `karat promote`, `karat rollback`: move an alias.

use karat_core::{Exit, Failure, summary::PromotionSummary};
use karat_store::Authority;
use serde_json::json;

use crate::{
    args::{PromoteArgs, RollbackArgs},
    context::Session,
    track::{self, News},
};

pub(crate) fn promote(session: &Session, args: &PromoteArgs) -> Result<Exit, Failure> {
    let server = track::server(session, args.track.as_deref())?;
    let workshop = session.open_existing()?;
    let lab = session.lab(&workshop);
    let version = lab.resolve(&args.version)?;
    let authority = match args.reason.clone().filter(|_| args.force) {
        Some(reason) => Authority::Forced { reason },
        None => {
            let policy = session.policy()?;
            let verdict = lab.passing_verdict(&version, &policy, &args.alias)?;
            lab.demand_judged(&version, &policy, &verdict)?;
            Authority::Verdict(verdict)
        }
    };
    let moved = lab.promote(&mut session.observer(), &version, &args.alias, authority)?;
    let news = News { promotion: Some(&moved), ..News::default() };
    track::tell(session, server.as_ref(), &workshop.store, &version, &news);
    show(session, &moved);
    Ok(Exit::Pass)
}

pub(crate) fn rollback(session: &Session, args: &RollbackArgs) -> Result<Exit, Failure> {
    let server = track::server(session, args.track.as_deref())?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => session.project()?.train.name,
    };
    let workshop = session.open_existing()?;
    let lab = session.lab(&workshop);
    let moved = lab.rollback(&mut session.observer(), &model, &args.alias, &args.reason)?;
    if let Some(now) = workshop.store.alias(&model, &args.alias)? {
        let version = workshop.store.version(&model, now.version)?;
        let news = News { promotion: Some(&moved), ..News::default() };
        track::tell(session, server.as_ref(), &workshop.store, &version, &news);
    }
    show(session, &moved);
    Ok(Exit::Pass)
}

fn show(session: &Session, moved: &PromotionSummary) {
    let to = moved.to.as_deref().unwrap_or("nothing");
    let was = moved
        .from
        .as_deref()
        .filter(|_| moved.is_moved)
        .map_or_else(String::new, |it| format!("was {it}; "));
    session.text(&format!("{} -> {to}  ({was}{})", moved.alias, moved.reason));
    session.json(&json!({ "event": "promotion", "promotion": moved }));
}
