//! One artifact: who made it and, when it is a text of reasonable length, what it says.

use karat_core::{Digest, RunId, Step, thousands};
use karat_store::Store;

use crate::{
    address::Address,
    frame::Head,
    html::{Html, html},
    parts::{Column, bytes, code, empty, facts, link, section, table, whole_digest},
    site::{self, Page, Trouble, Visit},
};

/// Runs shown.
const MAKERS_MAX: u32 = 20;
/// Bytes of a text that are read for a page.
const TEXT_BYTES_MAX: u64 = 256 << 10;

type Maker = (RunId, Step, String);

pub(crate) fn view(visit: &Visit<'_>) -> Result<Page, Trouble> {
    let digest = site::digest(visit.captured[0])?;
    let n_bytes = visit.store.size(&digest)?;
    let n_bytes =
        n_bytes.ok_or_else(|| Trouble::Absent("no artifact has this digest".to_owned()))?;
    let text = text(visit.store, &digest, n_bytes)?;
    let makers = visit.store.makers_of(&digest, MAKERS_MAX)?;
    let title = makers.first().map_or_else(|| digest.short(), |(.., name)| name.clone());
    Ok((Head::in_section("/runs", title), body(&digest, n_bytes, text.as_deref(), &makers)))
}

fn text(store: &Store, digest: &Digest, n_bytes: u64) -> Result<Option<String>, Trouble> {
    if TEXT_BYTES_MAX < n_bytes {
        return Ok(None);
    }
    let text = String::from_utf8(store.read(digest)?).ok();
    Ok(text.filter(|it| !it.contains('\0')))
}

fn body(digest: &Digest, n_bytes: u64, text: Option<&str>, makers: &[Maker]) -> Html {
    let about = facts(vec![
        ("size", html!("{} ({} bytes)", bytes(n_bytes), thousands(n_bytes))),
        ("digest", whole_digest(digest)),
    ]);
    let row = |(run, step, name): &Maker| {
        vec![link(&Address::run(run), &run.0), html!("{}", step.word()), code(name)]
    };
    let makers = if makers.is_empty() {
        empty("No run made it.")
    } else {
        let columns = [Column::Text("run"), Column::Text("step"), Column::Text("as")];
        table("Runs that made it", &columns, makers.iter().map(row).collect())
    };
    let content = text.map_or_else(
        || empty("It is not a text, or too long for a page."),
        |text| {
            // Line by line, so that the escaping, which makes line ends visible, leaves these.
            let lines: Vec<Html> = text.lines().map(|line| html!("{}\n", line)).collect();
            html!("<pre class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"content\">{}</pre>\n", lines)
        },
    );
    html!("{}{}{}", about, section("Made by", makers), section("Content", content))
}
