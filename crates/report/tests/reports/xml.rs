//! A strict little reader of XML, and of HTML written as strictly: panics on anything that is not well formed.

use std::collections::BTreeMap;

/// An element.
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    /// Elements directly inside.
    pub(crate) fn children(&self) -> impl Iterator<Item = &Self> {
        self.nodes.iter().filter_map(|it| match it {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// This element and all below it.
    pub(crate) fn walk(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        Box::new(std::iter::once(self).chain(self.children().flat_map(Self::walk)))
    }

    /// All text inside, decoded.
    pub(crate) fn text(&self) -> String {
        let text = |it: &Node| match it {
            Node::Element(element) => element.text(),
            Node::Text(text) => text.clone(),
        };
        self.nodes.iter().map(text).collect()
    }
}

/// The root of an XML document.
pub(crate) fn parse(text: &str) -> Element {
    let rest =
        text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").expect("a declaration");
    document(rest, &[])
}

/// The root of an HTML document in which every element but the void ones is closed.
pub(crate) fn parse_html(text: &str) -> Element {
    document(text.strip_prefix("<!doctype html>\n").expect("a doctype"), &["meta", "br"])
}

fn document(text: &str, void: &[&str]) -> Element {
    for c in text.chars() {
        assert!(
            matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..),
            "XML 1.0 has no {c:?}"
        );
    }
    // The outermost element of the stack collects the root.
    let mut stack = vec![Element::default()];
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix("</") {
            let (name, after) = inner.split_once('>').expect("a closing tag ends");
            let element = stack.pop().expect("never empty");
            assert_eq!(element.name, name, "closes in order");
            push(&mut stack, Node::Element(element));
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('<') {
            let (element, is_closed, after) = tag(inner);
            if is_closed || void.contains(&element.name.as_str()) {
                push(&mut stack, Node::Element(element));
            } else {
                stack.push(element);
            }
            rest = after;
        } else {
            let end = rest.find('<').unwrap_or(rest.len());
            let raw = &rest[..end];
            assert!(!raw.contains("]]>"), "`]]>` in text: {raw}");
            push(&mut stack, Node::Text(decode(raw)));
            rest = &rest[end..];
        }
    }
    assert_eq!(stack.len(), 1, "everything is closed");
    let top = stack.pop().expect("one left");
    assert_eq!(
        top.text().len() - top.children().map(|it| it.text().len()).sum::<usize>(),
        1,
        "a final newline"
    );
    let mut roots: Vec<Element> = top
        .nodes
        .into_iter()
        .filter_map(|it| match it {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
        .collect();
    assert_eq!(roots.len(), 1, "one root");
    roots.remove(0)
}

fn push(stack: &mut [Element], node: Node) {
    stack.last_mut().expect("closed more than opened").nodes.push(node);
}

/// An opening tag after its `<`: the element, whether it closes itself, and what follows.
fn tag(text: &str) -> (Element, bool, &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':');
    let name_end = text.find(|c| !plain(c)).expect("a tag ends");
    assert!(0 < name_end, "a bare `<` before {:?}", text.get(..20));
    let mut element = Element { name: text[..name_end].to_owned(), ..Element::default() };
    let mut rest = &text[name_end..];
    loop {
        if let Some(after) = rest.strip_prefix("/>") {
            return (element, true, after);
        }
        if let Some(after) = rest.strip_prefix('>') {
            return (element, false, after);
        }
        let attribute = rest.strip_prefix(' ').expect("a space before an attribute");
        let (key, after) = attribute.split_once("=\"").expect("key=\"value\"");
        assert!(key.chars().all(plain), "{key}");
        let (value, after) = after.split_once('"').expect("a closing quote");
        assert!(!value.contains('<'), "`<` in an attribute: {value}");
        let before = element.attributes.insert(key.to_owned(), decode(value));
        assert_eq!(before, None, "{key} twice");
        rest = after;
    }
}

fn decode(raw: &str) -> String {
    let mut out = String::new();
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('&') {
        let (entity, after) = after.split_once(';').expect("an entity ends");
        out.push_str(before);
        out.push_str(match entity {
            "amp" => "&",
            "lt" => "<",
            "gt" => ">",
            "quot" => "\"",
            "#39" => "'",
            other => panic!("unknown entity {other}"),
        });
        rest = after;
    }
    out + rest
}
