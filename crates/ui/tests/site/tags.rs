//! What a page consists of, tag by tag; panics on anything that this crate would not have written.

/// Elements that pages have.
const ELEMENTS: &[&str] = &[
    "a",
    "body",
    "br",
    "button",
    "caption",
    "circle",
    "code",
    "dd",
    "desc",
    "details",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "footer",
    "form",
    "g",
    "h1",
    "h2",
    "head",
    "header",
    "html",
    "input",
    "label",
    "li",
    "line",
    "link",
    "main",
    "meta",
    "nav",
    "ol",
    "option",
    "p",
    "path",
    "pre",
    "rect",
    "section",
    "select",
    "small",
    "span",
    "strong",
    "summary",
    "svg",
    "table",
    "tbody",
    "td",
    "text",
    "th",
    "thead",
    "time",
    "title",
    "tr",
    "ul",
];
/// Attributes with an address in them.
const ADDRESSES: &[&str] = &["href", "action"];
/// All other attributes.
const ATTRIBUTES: &[&str] = &[
    "aria-current",
    "aria-label",
    "aria-labelledby",
    "charset",
    "class",
    "content",
    "cx",
    "cy",
    "d",
    "datetime",
    "height",
    "id",
    "lang",
    "maxlength",
    "method",
    "name",
    "r",
    "rel",
    "role",
    "rx",
    "scope",
    "selected",
    "tabindex",
    "title",
    "type",
    "value",
    "viewBox",
    "width",
    "x",
    "x1",
    "x2",
    "y",
    "y1",
    "y2",
];

/// Every tag of a page is one of ours, its attributes too, and every link stays here. Returns all links.
#[track_caller]
pub(crate) fn assert_ours(page: &str) -> Vec<String> {
    let page = page.strip_prefix("<!doctype html>\n").expect("a doctype");
    let mut links = Vec::new();
    for piece in page.split('<').skip(1) {
        let (tag, text) =
            piece.split_once('>').unwrap_or_else(|| panic!("a bare `<`: {piece:.80}"));
        assert!(!text.contains('>'), "a bare `>`: {piece:.200}");
        if let Some(name) = tag.strip_prefix('/') {
            assert!(ELEMENTS.contains(&name), "</{name}>");
            continue;
        }
        let tag = tag.strip_suffix('/').unwrap_or(tag);
        let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(ELEMENTS.contains(&name), "<{name}>");
        while !rest.is_empty() {
            let end = rest.find([' ', '=']).unwrap_or(rest.len());
            let key = &rest[..end];
            let mut value = "";
            rest = &rest[end..];
            if let Some(after) = rest.strip_prefix("=\"") {
                let (inside, after) = after.split_once('"').expect("a closing quote");
                (value, rest) = (inside, after);
            }
            rest = rest.strip_prefix(' ').unwrap_or(rest);
            if ADDRESSES.contains(&key) {
                assert!(
                    value.starts_with('/') && !value.starts_with("//") || value == "#content",
                    "{key}={value}"
                );
                links.push(value.replace("&amp;", "&"));
            } else {
                assert!(ATTRIBUTES.contains(&key), "{key}={value} in <{name}>");
            }
        }
    }
    links
}
