//! One verdict, whole: what was judged, every rule with its finding, every metric by slice, charts.

use karat_core::{Digest, Verdict, verdict::Judged};
use karat_report::{number, verdict_html, verdict_line_html};
use karat_store::{Store, StoreError};

use crate::{
    address::Address,
    frame::Head,
    html::{Html, html},
    pages::run::thing,
    parts::{code, digest, facts, link, outcome, section, whole_digest},
    site::{self, Page, Trouble, Visit},
};

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let key = site::digest(visit.captured[0])?;
    let verdict = visit.store.verdict(&key)?;
    let judged = judged(visit.store, &verdict.judged)?;
    let title = format!("Verdict on {}", verdict.candidate);
    let head = Head::in_section("/verdicts", title).badge(outcome(verdict.outcome));
    Ok((head, body(&key, &verdict, judged)))
}

/// Every digest the verdict is bound to, with the page about it.
fn judged(store: &Store, it: &Judged) -> Result<Vec<(&'static str, Html)>, StoreError> {
    let mut found = Vec::new();
    for (name, what, value) in [
        ("candidate", "candidate", Some(it.candidate)),
        ("baseline", "baseline", it.baseline),
        ("evaluation snapshot", "snapshot", Some(it.snapshot)),
        ("predictions", "predictions", Some(it.predictions)),
        ("baseline's predictions", "predictions", it.baseline_predictions),
    ] {
        if let Some(value) = value {
            let thing = thing(store, what, &value)?;
            let label = thing.label.as_ref().map_or_else(|| digest(&value), code);
            found.push((name, link(&thing.address, label)));
        }
    }
    found.push(("rows and labels", digest(&it.rows)));
    found.push(("policy", digest(&it.policy)));
    found.push(("tool", html!("{}", it.tool)));
    Ok(found)
}

fn body(key: &Digest, verdict: &Verdict, judged: Vec<(&'static str, Html)>) -> Html {
    let about = facts(vec![
        ("gate", html!("{}", verdict.gate)),
        ("reliability", html!("{}", number::percent(verdict.reliability))),
        ("digest", whole_digest(key)),
        ("record", link(&Address::artifact(key), "verdict.json")),
    ]);
    html!(
        "<p class=\"lead\">{}</p>\n{}{}{}",
        Html::written(verdict_line_html(verdict)),
        about,
        Html::written(verdict_html(verdict)),
        section("What was judged", facts(judged))
    )
}
