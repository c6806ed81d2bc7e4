//! The XML of callbacks: one element for each value, some in lists. Bounded, and without document types: an entity that
//! grows cannot even be declared.

use roxmltree::{Document, Node, ParsingOptions};

use super::super::callback::Refused;

/// Most elements and texts of a callback. The longest names every member of a group: up to 500 of them, each with an
/// element, its text and a blank before the next. At about a hundred bytes each, this is half a megabyte.
const NODES_MAX: u32 = 5_000;

/// Reads a document.
///
/// # Errors
/// [`Refused::Unreadable`].
pub(super) fn read(text: &str) -> Result<Document<'_>, Refused> {
    if has_attributes(text) {
        return Err(Refused::Unreadable);
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|_| Refused::Unreadable)
}

/// Returns whether an element has attributes. No callback's has, and the parser compares each attribute with all others of
/// its element: a megabyte of them would keep it busy for minutes.
fn has_attributes(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, tag)) = rest.split_once('<') {
        let end = if tag.starts_with("![CDATA[") {
            "]]>"
        } else if tag.starts_with("!--") {
            "-->"
        } else if tag.starts_with('?') {
            "?>"
        } else {
            ">"
        };
        let (inside, behind) = tag.split_once(end).unwrap_or((tag, ""));
        if end == ">" && inside.contains('=') {
            return true;
        }
        rest = behind;
    }
    false
}

/// Returns the text of a child of that name; empty where there is none.
pub(super) fn text<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    child(node, name).and_then(|child| child.text()).unwrap_or_default()
}

/// Returns the first child of that name.
pub(super) fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(said: &str) -> bool {
        read(said).is_ok()
    }

    #[test]
    fn every_member_of_a_group_is_read() {
        let members: String = (0..500).map(|number| format!("  <Item><![CDATA[wm{number}]]></Item>\n")).collect();
        let said = format!("<?xml version=\"1.0\"?>\n<xml>\n<MemChangeList>\n{members}</MemChangeList>\n</xml>");
        let document = read(&said).unwrap();
        let list = child(document.root_element(), "MemChangeList").unwrap();
        assert_eq!(list.children().filter(|node| node.has_tag_name("Item")).count(), 500);
    }

    #[test]
    fn what_is_made_to_keep_the_parser_busy_is_not_parsed() {
        let attributes: String = (0..150_000).map(|number| format!(" a{number}=''")).collect();
        assert!(!reads(&format!("<xml{attributes}/>")));
        assert!(!reads("<xml xmlns:a='b'><c a:d='e'/></xml>") && !reads("<xml a\n=\n'>'/>") && !reads("<xml a=\"1"));
        assert!(!reads(&format!("<xml>{}</xml>", "<a/>".repeat(10_000))));
        assert!(!reads(&"<a>".repeat(100_000)));
        assert!(!reads(&format!("<xml>{}</xml>", "<!---->".repeat(10_000))));
        assert!(!reads("<!DOCTYPE x [<!ENTITY a 'b'>]><xml>&a;</xml>"));
        // What somebody writes may look like all of it.
        assert!(reads("<!-- a='b' --><xml><a><![CDATA[<b c='d'>]]></a><b>1 = 1 &lt; 2</b></xml>"));
    }
}
