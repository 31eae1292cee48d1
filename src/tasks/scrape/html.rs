//! HTML: a page as a `select` document, within bounds.
//!
//! `select` builds its document by recursion over an intermediate tree: a page of a hundred thousand `<div>`s would
//! overflow the stack. And any parser that follows the standard can be made to build a quadratic number of nodes, or
//! to search a deep stack of open elements for every tag. So this builder, which html5ever feeds, keeps its nodes in
//! one vector, builds and drops without recursion, and gives up reading when a page passes [`MAX_DEPTH`],
//! [`MAX_SIZE`] or [`MAX_TIME`]: what was read until then still counts.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use html5ever::{
    Attribute, ExpandedName, ParseOpts, QualName, parse_document,
    tendril::{StrTendril, TendrilSink},
    tree_builder::{ElementFlags, NodeOrText, QuirksMode, TreeSink},
};
use select::{
    document::Document,
    node::{Data, Raw},
};

/// Elements within elements. Browsers stop at 512 too.
const MAX_DEPTH: usize = 512;
/// Nodes and attributes.
const MAX_SIZE: usize = 500_000;
/// Five megabytes of usual markup take a twentieth of it.
const MAX_TIME: Duration = Duration::from_secs(5);
/// The bounds are looked at between pieces, so a piece bounds by how much they are passed.
const PIECE_BYTES: usize = 1024;

/// A parsed page.
pub(super) struct Page {
    pub(super) document: Document,
    pub(super) end: End,
}

/// Where reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// At the end of the page.
    Whole,
    /// At a bound.
    CutShort,
}

/// Parses a page. `go_on` is asked before each piece; once it says no, the page is cut short.
pub(super) fn parse(text: &str, go_on: impl Fn() -> bool) -> Page {
    let until = Instant::now() + MAX_TIME;
    let mut parser = parse_document(Builder::new(), ParseOpts::default());
    let mut rest = text;
    while !rest.is_empty() {
        let builder = &parser.tokenizer.sink.sink;
        let within_bounds = builder.deepest <= MAX_DEPTH && builder.size <= MAX_SIZE && Instant::now() < until;
        if !within_bounds || !go_on() {
            return Page { document: parser.finish(), end: End::CutShort };
        }
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        parser.process(StrTendril::from_slice(piece));
        rest = after;
    }
    Page { document: parser.finish(), end: End::Whole }
}

/// The document node.
const ROOT: usize = 0;

/// A tree in a vector; a node's handle is its index.
struct Builder {
    nodes: Vec<Node>,
    /// Nodes and attributes so far.
    size: usize,
    /// The depth of the deepest node when it was put in.
    deepest: usize,
}

#[derive(Default)]
struct Node {
    /// `None`: the document, a template's contents, a processing instruction.
    data: Option<Data>,
    depth: usize,
    parent: Option<usize>,
    prev: Option<usize>,
    next: Option<usize>,
    first_child: Option<usize>,
    last_child: Option<usize>,
    template_contents: Option<usize>,
    mathml_integration_point: bool,
}

impl Builder {
    fn new() -> Self {
        Self { nodes: vec![Node::default()], size: 0, deepest: 0 }
    }

    fn make(&mut self, data: Option<Data>) -> usize {
        self.size += 1;
        self.nodes.push(Node { data, ..Node::default() });
        self.nodes.len() - 1
    }

    fn detach(&mut self, node: usize) {
        let Node { parent, prev, next, .. } = self.nodes[node];
        match prev {
            Some(prev) => self.nodes[prev].next = next,
            None => parent.into_iter().for_each(|parent| self.nodes[parent].first_child = next),
        }
        match next {
            Some(next) => self.nodes[next].prev = prev,
            None => parent.into_iter().for_each(|parent| self.nodes[parent].last_child = prev),
        }
        let node = &mut self.nodes[node];
        (node.parent, node.prev, node.next) = (None, None, None);
    }

    /// Puts a node that has no place yet under `parent`, in front of `next` or at the end.
    fn insert(&mut self, node: usize, parent: usize, next: Option<usize>) {
        let prev = match next {
            Some(next) => self.nodes[next].prev.replace(node),
            None => self.nodes[parent].last_child.replace(node),
        };
        match prev {
            Some(prev) => self.nodes[prev].next = Some(node),
            None => self.nodes[parent].first_child = Some(node),
        }
        let depth = self.nodes[parent].depth + 1;
        self.deepest = self.deepest.max(depth);
        let node = &mut self.nodes[node];
        (node.parent, node.prev, node.next, node.depth) = (Some(parent), prev, next, depth);
    }

    fn place(&mut self, child: NodeOrText<usize>, parent: usize, next: Option<usize>) {
        match child {
            NodeOrText::AppendNode(node) => {
                self.detach(node);
                self.insert(node, parent, next);
            }
            NodeOrText::AppendText(text) => {
                let prev = next.map_or(self.nodes[parent].last_child, |next| self.nodes[next].prev);
                if let Some(Data::Text(before)) = prev.and_then(|prev| self.nodes[prev].data.as_mut()) {
                    before.push_tendril(&text);
                } else {
                    let node = self.make(Some(Data::Text(text)));
                    self.insert(node, parent, next);
                }
            }
        }
    }

    /// The nodes in document order, as `select` wants them.
    fn into_document(mut self) -> Document {
        let mut document = Document { nodes: Vec::new() };
        // New places of the ancestors of `here`, the document left out.
        let mut ancestors: Vec<usize> = Vec::new();
        // New place of the sibling before `here`.
        let mut before: Option<usize> = None;
        let mut next = self.nodes[ROOT].first_child;
        let mut here;
        while let Some(node) = next {
            here = node;
            if let Some(data) = self.nodes[here].data.take() {
                let (index, parent) = (document.nodes.len(), ancestors.last().copied());
                document.nodes.push(Raw {
                    index,
                    parent,
                    prev: before,
                    next: None,
                    first_child: None,
                    last_child: None,
                    data,
                });
                if let Some(before) = before {
                    document.nodes[before].next = Some(index);
                }
                if let Some(parent) = parent {
                    document.nodes[parent].first_child.get_or_insert(index);
                    document.nodes[parent].last_child = Some(index);
                }
                before = Some(index);
                if let Some(child) = self.nodes[here].first_child {
                    ancestors.push(index);
                    before = None;
                    next = Some(child);
                    continue;
                }
            }
            // Up, until somebody has a next sibling.
            next = self.nodes[here].next;
            while next.is_none() && here != ROOT {
                let Some(parent) = self.nodes[here].parent.filter(|parent| *parent != ROOT) else { break };
                here = parent;
                before = ancestors.pop();
                next = self.nodes[here].next;
            }
        }
        document
    }
}

impl TreeSink for Builder {
    type Handle = usize;
    type Output = Document;

    fn finish(self) -> Document {
        self.into_document()
    }

    fn parse_error(&mut self, _: Cow<'static, str>) {}

    fn get_document(&mut self) -> usize {
        ROOT
    }

    fn elem_name<'a>(&'a self, target: &'a usize) -> ExpandedName<'a> {
        match &self.nodes[*target].data {
            Some(Data::Element(name, _)) => name.expanded(),
            _ => unreachable!("the tree builder asks for the names of elements only"),
        }
    }

    fn create_element(&mut self, name: QualName, attributes: Vec<Attribute>, flags: ElementFlags) -> usize {
        self.size += attributes.len();
        // Over the bound nothing is kept any more: the standard repeats open formatting elements with all of their
        // attributes in every paragraph, and a piece has room for hundreds of paragraphs.
        let attributes = if self.size > MAX_SIZE { Vec::new() } else { attributes };
        let attributes = attributes.into_iter().map(|attribute| (attribute.name, attribute.value)).collect();
        let element = self.make(Some(Data::Element(name, attributes)));
        self.nodes[element].mathml_integration_point = flags.mathml_annotation_xml_integration_point;
        if flags.template {
            let contents = self.make(None);
            self.nodes[element].template_contents = Some(contents);
        }
        element
    }

    fn create_comment(&mut self, text: StrTendril) -> usize {
        self.make(Some(Data::Comment(text)))
    }

    fn create_pi(&mut self, _: StrTendril, _: StrTendril) -> usize {
        self.make(None)
    }

    fn append(&mut self, parent: &usize, child: NodeOrText<usize>) {
        self.place(child, *parent, None);
    }

    fn append_based_on_parent_node(&mut self, element: &usize, prev_element: &usize, child: NodeOrText<usize>) {
        match self.nodes[*element].parent {
            Some(parent) => self.place(child, parent, Some(*element)),
            None => self.place(child, *prev_element, None),
        }
    }

    fn append_doctype_to_document(&mut self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&mut self, target: &usize) -> usize {
        let contents = self.nodes[*target].template_contents.unwrap_or(*target);
        // As deep as the template, so that templates within templates are bounded like everything else.
        self.nodes[contents].depth = self.nodes[*target].depth;
        contents
    }

    fn same_node(&self, one: &usize, other: &usize) -> bool {
        one == other
    }

    fn set_quirks_mode(&mut self, _: QuirksMode) {}

    fn append_before_sibling(&mut self, sibling: &usize, child: NodeOrText<usize>) {
        if let Some(parent) = self.nodes[*sibling].parent {
            // The new node may itself be the sibling's neighbour: it leaves its place before the new one is looked up.
            if let NodeOrText::AppendNode(node) = &child {
                self.detach(*node);
            }
            self.place(child, parent, Some(*sibling));
        }
    }

    fn add_attrs_if_missing(&mut self, target: &usize, attributes: Vec<Attribute>) {
        let mut added = 0;
        if let Some(Data::Element(_, own)) = &mut self.nodes[*target].data {
            for attribute in attributes {
                if self.size + added <= MAX_SIZE && own.iter().all(|(name, _)| *name != attribute.name) {
                    own.push((attribute.name, attribute.value));
                    added += 1;
                }
            }
        }
        self.size += added;
    }

    fn remove_from_parent(&mut self, target: &usize) {
        self.detach(*target);
    }

    fn reparent_children(&mut self, node: &usize, new_parent: &usize) {
        while let Some(child) = self.nodes[*node].first_child {
            self.detach(child);
            self.insert(child, *new_parent, None);
        }
    }

    fn is_mathml_annotation_xml_integration_point(&self, handle: &usize) -> bool {
        self.nodes[*handle].mathml_integration_point
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use select::predicate::{Any, Name};

    use super::*;

    fn whole(text: &str) -> Document {
        let page = parse(text, || true);
        assert_eq!(page.end, End::Whole);
        page.document
    }

    /// The builder against select's own, which is right on pages that do not harm it.
    fn assert_as_select(text: &str) {
        assert_eq!(whole(text), Document::from(text), "{text}");
    }

    #[test]
    fn builds_what_select_builds() {
        for text in [
            "",
            "just text",
            "<!DOCTYPE html><title>T</title><p>one<p>two<!-- c -->",
            "<p>a<b>b<i>c</b>d</i>e<p>f",
            "<table>foster<tr><td>cell</table>after",
            "<a href=1>x<a href=2>y",
            "<b><p>1</b>2</p>3<div><b></div>4",
            "<html lang=en><body class=a><body class=b id=c>",
            "<svg><title>t</title><desc>d</desc></svg><math><annotation-xml encoding=text/html><p>x",
            "<select><option>1<option>2</select><ul><li>1<li>2</ul>",
            "<?pi x><frameset><frame></frameset>",
        ] {
            assert_as_select(text);
        }
    }

    #[test]
    fn a_very_deep_page_is_cut_short_and_overflows_nothing() {
        // 2 MiB is what a thread gets that nobody asked about; the main thread of a test may have more.
        let small = std::thread::Builder::new().stack_size(256 * 1024);
        let deep = small.spawn(|| {
            let text = format!("<title>deep</title>{}", "<div>".repeat(1_000_000));
            let page = parse(&text, || true);
            assert_eq!(page.end, End::CutShort);
            let title = page.document.find(Name("title")).next().map(|title| title.text());
            let divs = page.document.find(Name("div")).count();
            (title, divs)
        });
        let (title, divs) = deep.unwrap().join().unwrap();
        assert_eq!(title.as_deref(), Some("deep"));
        assert!((MAX_DEPTH - 10..MAX_DEPTH + PIECE_BYTES).contains(&divs), "{divs}");
    }

    #[test]
    fn a_page_that_multiplies_is_cut_short() {
        // Each paragraph repeats all open formatting elements: 400 times 100,000 if nobody stopped it.
        let open: String = (0..400).map(|n| format!("<b id={n}>")).collect();
        let page = parse(&("<p>".to_owned() + &open + &"<p>x".repeat(100_000)), || true);
        assert_eq!(page.end, End::CutShort);
        let nodes = page.document.find(Any).count();
        assert!(nodes < 2 * MAX_SIZE, "{nodes}");
    }

    #[test]
    fn reading_ends_when_it_is_told_to() {
        let asked = std::cell::Cell::new(0);
        let go_on = || asked.replace(asked.get() + 1) < 2;
        let page = parse(&"<p>x</p>".repeat(1000), go_on);
        assert_eq!(page.end, End::CutShort);
        assert!(page.document.find(Name("p")).count() <= 2 * PIECE_BYTES / 8);
    }

    proptest! {
        #[test]
        fn any_tag_soup_gives_what_select_gives(
            soup in prop::collection::vec(
                prop::sample::select(vec![
                    "<p>", "</p>", "<b>", "</b>", "<i a=1>", "</i>", "<a href=x>", "</a>", "<div>", "</div>", "<table>",
                    "</table>", "<tr>", "<td>", "</td>", "<svg>", "</svg>", "<math>", "<title>", "</title>", "text",
                    " ", "<!-- -->", "<li>", "<ul>", "</ul>", "<br>", "</br>", "<form>", "</form>", "<select>",
                    "<option>", "</select>", "<body x=1>", "<html y=2>", "<nobr>", "<button>", "</button>", "&amp;",
                ]),
                0..40,
            )
        ) {
            let text = soup.concat();
            prop_assert_eq!(whole(&text), Document::from(text.as_str()));
        }
    }
}
