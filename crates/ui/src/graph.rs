//! A graph in layers, from left to right, drawn as SVG whose nodes are links.

use crate::{
    address::Address,
    html::{Html, html},
};

const WIDTH: usize = 160;
const HEIGHT: usize = 48;
const GAP_X: usize = 40;
const GAP_Y: usize = 16;
const MARGIN: usize = 8;
/// Characters of a label that fit.
const LABEL_LEN_MAX: usize = 17;

/// One thing.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its column, from 0.
    pub(crate) layer: usize,
    /// What it is, in a word or two.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) label: String,
    /// Class of its frame: `focus`, an outcome's word, or nothing.
    pub(crate) class: &'static str,
    /// Where it leads.
    pub(crate) address: Option<Address>,
}

/// Things and what came from what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    edges: Vec<(usize, usize)>,
}

impl Graph {
    /// Adds a node, or finds the one of the same kind and name that leads to the same place.
    pub(crate) fn node(&mut self, node: Node) -> usize {
        let same = |it: &Node| {
            (it.kind, &it.label, &it.address) == (node.kind, &node.label, &node.address)
        };
        self.nodes.iter().position(same).unwrap_or_else(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }

    /// `to` came from `from`.
    pub(crate) fn edge(&mut self, from: usize, to: usize) {
        if !self.edges.contains(&(from, to)) {
            self.edges.push((from, to));
        }
    }

    /// What came from what, as (from, to), for readers who cannot see the picture.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (&Node, &Node)> {
        self.edges.iter().map(|(from, to)| (&self.nodes[*from], &self.nodes[*to]))
    }

    /// The picture.
    pub(crate) fn svg(&self, title: &str) -> Html {
        let n_layers = self.nodes.iter().map(|it| it.layer + 1).max().unwrap_or(1);
        let in_layer = |layer: usize| self.nodes.iter().filter(move |it| it.layer == layer).count();
        let n_high = (0..n_layers).map(in_layer).max().unwrap_or(1).max(1);
        let width = MARGIN * 2 + n_layers * WIDTH + (n_layers - 1) * GAP_X;
        let is_long =
            |(from, to): &(usize, usize)| self.nodes[*from].layer + 1 < self.nodes[*to].layer;
        let lane = if self.edges.iter().any(is_long) { GAP_Y } else { 0 };
        let inner = n_high * (HEIGHT + GAP_Y) - GAP_Y;
        let height = MARGIN * 2 + inner + lane;
        let place = |i: usize| {
            let layer = self.nodes[i].layer;
            let above = self.nodes[..i].iter().filter(|it| it.layer == layer).count();
            let used = in_layer(layer) * (HEIGHT + GAP_Y) - GAP_Y;
            let top = MARGIN + (inner - used) / 2 + above * (HEIGHT + GAP_Y);
            (MARGIN + layer * (WIDTH + GAP_X), top)
        };
        let edge = |ends: &(usize, usize)| {
            let ((x0, y0), (x1, y1)) = (place(ends.0), place(ends.1));
            let (x0, y0, y1) = (x0 + WIDTH, y0 + HEIGHT / 2, y1 + HEIGHT / 2);
            if is_long(ends) {
                // Below everything, so that it does not seem to come out of what lies between.
                let (out, back, bottom) = (x0 + GAP_X / 2, x1 - GAP_X / 2, height - MARGIN);
                return html!(
                    "<path class=\"edge\" d=\"M{} {}C{} {} {} {} {} {}H{}C{} {} {} {} {} {}\"/>\n",
                    x0,
                    y0,
                    out,
                    y0,
                    x0,
                    bottom,
                    out,
                    bottom,
                    back,
                    x1,
                    bottom,
                    back,
                    y1,
                    x1,
                    y1
                );
            }
            let middle = (x0 + x1) / 2;
            html!(
                "<path class=\"edge\" d=\"M{} {}C{} {} {} {} {} {}\"/>\n",
                x0,
                y0,
                middle,
                y0,
                middle,
                y1,
                x1,
                y1
            )
        };
        let node = |(i, node): (usize, &Node)| {
            let (x, y) = place(i);
            let drawn = html!(
                "<rect class=\"node {}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"6\"/>\
                 <text class=\"kind\" x=\"{}\" y=\"{}\">{}</text><text class=\"name\" x=\"{}\" y=\"{}\">{}</text>",
                node.class,
                x,
                y,
                WIDTH,
                HEIGHT,
                x + 12,
                y + 18,
                node.kind,
                x + 12,
                y + 36,
                clip(&node.label)
            );
            match &node.address {
                Some(address) => html!(
                    "<a href=\"{}\"><title>{} {}</title>{}</a>\n",
                    address,
                    node.kind,
                    node.label,
                    drawn
                ),
                None => html!("<g><title>{} {}</title>{}</g>\n", node.kind, node.label, drawn),
            }
        };
        let edges: Vec<Html> = self.edges.iter().map(edge).collect();
        let nodes: Vec<Html> = self.nodes.iter().enumerate().map(node).collect();
        html!(
            "<div class=\"scroll lineage\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">\n\
             <svg viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" role=\"group\" aria-label=\"{}\">\n{}{}</svg>\n</div>\n",
            title,
            width,
            height,
            width,
            height,
            title,
            edges,
            nodes
        )
    }
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(LABEL_LEN_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::{Graph, Node};

    fn node(layer: usize, label: &str) -> Node {
        Node { layer, kind: "run", label: label.to_owned(), class: "", address: None }
    }

    #[test]
    fn a_node_stands_once_and_names_stay_text() {
        let mut graph = Graph::default();
        let (a, b) = (graph.node(node(0, "a")), graph.node(node(1, "<script>")));
        assert_eq!(graph.node(node(0, "a")), a);
        graph.edge(a, b);
        graph.edge(a, b);
        assert_eq!(graph.steps().count(), 1);
        let svg = graph.svg("lineage").into_string();
        assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;"), "{svg}");
        assert_eq!(svg.matches("<path").count(), 1);
        assert!(Graph::default().svg("nothing").into_string().contains("<svg"));
    }
}
