//! The XML of callbacks: one element for each value, some in lists. Bounded, and without document types: an entity that
//! grows cannot even be declared.

use roxmltree::{Document, Node, ParsingOptions};

use super::super::callback::Refused;

/// Most elements and texts of a callback; the longest known ones, with their lists, have about fifty.
const NODES_MAX: u32 = 1_000;

/// Reads a document.
///
/// # Errors
/// [`Refused::Unreadable`].
pub(super) fn read(text: &str) -> Result<Document<'_>, Refused> {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|_| Refused::Unreadable)
}

/// Returns the text of a child of that name; empty where there is none.
pub(super) fn text<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    child(node, name).and_then(|child| child.text()).unwrap_or_default()
}

/// Returns the first child of that name.
pub(super) fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}
