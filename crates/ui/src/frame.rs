//! What every page has around its content: title, navigation, breadcrumbs, footer.

use karat_report::words_html;

use crate::{
    address::Address,
    html::{Html, html},
};

/// Where the main navigation leads: address, words.
const SECTIONS: &[(&str, &str)] = &[
    ("/", "Overview"),
    ("/runs", "Runs"),
    ("/models", "Models"),
    ("/verdicts", "Verdicts"),
    ("/promotions", "Promotions"),
    ("/data", "Data"),
    ("/ledger", "Ledger"),
];

/// What stands above a page's content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    title: String,
    /// Address of the section it belongs to; none for what belongs nowhere.
    section: &'static str,
    above: Vec<(String, Address)>,
    badge: Html,
}

impl Head {
    /// A page outside every section.
    pub(crate) fn of(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// The page of a section, or one below it.
    pub(crate) fn in_section(section: &'static str, title: impl Into<String>) -> Self {
        Self { section, ..Self::of(title) }
    }

    /// A page between the section's and this one.
    pub(crate) fn below(mut self, title: impl Into<String>, address: Address) -> Self {
        self.above.push((title.into(), address));
        self
    }

    /// What stands beside the title.
    pub(crate) fn badge(self, badge: Html) -> Self {
        Self { badge, ..self }
    }
}

/// The whole page.
pub(crate) fn page(project: &str, tool: &str, head: &Head, body: Html) -> Html {
    html!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{} · {}</title>\n<link rel=\"icon\" href=\"/icon.svg\" type=\"image/svg+xml\">\n\
         <link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#content\">Skip to the content</a>\n\
         <header class=\"top\"><div class=\"bar\"><a class=\"brand\" href=\"/\">karat</a>\
         <span class=\"project\">{}</span>{}</div></header>\n\
         <main id=\"content\" tabindex=\"-1\">\n{}<h1>{}{}</h1>\n{}</main>\n\
         <footer class=\"foot\"><p>{} · reads only, there is no login</p></footer>\n</body>\n</html>\n",
        head.title,
        project,
        project,
        navigation(head.section),
        breadcrumbs(head),
        head.title,
        head.badge,
        body,
        tool
    )
}

fn navigation(section: &str) -> Html {
    let entry = |(path, words): &(&'static str, &'static str)| {
        let current = (*path == section).then(|| html!(" aria-current=\"true\""));
        html!("<li><a href=\"{}\"{}>{}</a></li>", Address::of(path), current, words)
    };
    let entries: Vec<Html> = SECTIONS.iter().map(entry).collect();
    html!("<nav class=\"main\" aria-label=\"Sections\"><ul>{}</ul></nav>", entries)
}

/// The way from the overview to here; nothing on the overview itself.
fn breadcrumbs(head: &Head) -> Html {
    if head.section == "/" {
        return Html::default();
    }
    let section =
        SECTIONS.iter().find(|(path, words)| *path == head.section && *words != head.title);
    let above = section.map(|(path, words)| ((*words).to_owned(), Address::of(path)));
    let step = |(words, address): (String, Address)| {
        html!("<li><a href=\"{}\">{}</a></li>", address, words)
    };
    let steps: Vec<Html> = std::iter::once(("Overview".to_owned(), Address::of("/")))
        .chain(above)
        .chain(head.above.iter().cloned())
        .map(step)
        .collect();
    html!(
        "<nav class=\"crumbs\" aria-label=\"Breadcrumb\"><ol>{}<li aria-current=\"page\">{}</li></ol></nav>\n",
        steps,
        head.title
    )
}

/// A message for people, its `literals` set as such.
pub(crate) fn words(text: &str) -> Html {
    Html::written(words_html(text))
}
