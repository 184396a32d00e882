//! YAML text to a tree of [`Node`]s.
//!
//! Works on the events of the parser underneath `serde-saphyr`, not through serde: serde stops at the first mistake,
//! turns numbers into floats before anyone asked, and forgets where a value was written.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag, options};

use super::errors::{ConfigError, Place, Spot};
use super::node::{Content, Entry, Node, item_path, key_path, shown_text};

/// Bound on nesting, written or through aliases; a reader may recurse this deep.
const DEPTH_MAX: usize = 64;
/// Bound on nodes after aliases are replaced, against documents that grow exponentially through them.
const NODES_MAX: usize = 100_000;

/// Reads one YAML document, whose nodes get paths below `path`. Duplicate and unreadable keys are added to `errors`
/// and left out; a syntax error ends the reading, since nothing after it can be trusted.
pub(super) fn parse(
    text: &str,
    path: &str,
    place: &dyn Fn(Option<(usize, usize)>) -> Place,
    errors: &mut Vec<ConfigError>,
) -> Option<Node> {
    let options = options! {
        flow_nesting_limit: DEPTH_MAX / 2,
        block_nesting_limit: DEPTH_MAX / 2,
        emit_comments: false,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder { parser, place, anchors: BTreeMap::new(), nodes: 0, errors };
    match builder.document(path) {
        Ok(node) => Some(node),
        Err(error) => {
            errors.push(*error);
            None
        }
    }
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    place: &'a dyn Fn(Option<(usize, usize)>) -> Place,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    errors: &'a mut Vec<ConfigError>,
}

type Built<T> = Result<T, Box<ConfigError>>;

impl<'a> Builder<'a> {
    fn document(&mut self, path: &str) -> Built<Node> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd | Event::StreamEnd => {}
                _ if root.is_some() => {
                    return Err(self.error(span.start, path, "a second document", "one YAML document"));
                }
                event => root = Some(self.node(event, span, path, 1)?),
            }
        }
        let nothing = Spot { place: (self.place)(None), path: path.to_owned() };
        Ok(root.unwrap_or(Node { spot: nothing, content: Content::Plain(String::new()) }))
    }

    fn next(&mut self) -> Built<Option<(Event<'a>, Span)>> {
        let next = self.parser.next_event().transpose();
        next.map_err(|error: ScanError| self.error(*error.marker(), "", &error.info(), "YAML"))
    }

    /// The next event inside a collection, where the parser owes one.
    fn inside(&mut self, opened: Span) -> Built<(Event<'a>, Span)> {
        match self.next()? {
            Some(next) => Ok(next),
            None => Err(self.error(opened.start, "", "the end of the file", "the end of what begins here")),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, path: &str, depth: usize) -> Built<Node> {
        self.count(1, span, path)?;
        let spot = self.spot(span.start, path);
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = self.is_text_tag(tag.as_deref(), span, path);
                let is_plain = style == ScalarStyle::Plain && !is_text;
                let text = text.into_owned();
                (if is_plain { Content::Plain(text) } else { Content::Quoted(text) }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.is_text_tag(tag.as_deref(), span, path);
                (Content::List(self.items(span, path, depth)?), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.is_text_tag(tag.as_deref(), span, path);
                (Content::Map(self.entries(span, path, depth)?), anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, span, path, depth),
            _ => return Err(self.error(span.start, path, "an event that is no value", "a value")),
        };
        let node = Node { spot, content };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn items(&mut self, opened: Span, path: &str, depth: usize) -> Built<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            match self.inside(opened)? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, &item_path(path, items.len()), depth + 1)?),
            }
        }
    }

    fn entries(&mut self, opened: Span, path: &str, depth: usize) -> Built<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines = BTreeMap::new();
        loop {
            let (name, span) = match self.inside(opened)? {
                (Event::MappingEnd, _) => return Ok(entries),
                (Event::Scalar(text, ..), span) => (text.into_owned(), span),
                (event, span) => {
                    self.refuse(span, path, "a key that is a list, a map or an alias", "text");
                    self.node(event, span, path, depth + 1)?;
                    let (event, span) = self.inside(opened)?;
                    self.node(event, span, path, depth + 1)?;
                    continue;
                }
            };
            let entry_path = key_path(path, &name);
            let (event, value_span) = self.inside(opened)?;
            let value = self.node(event, value_span, &entry_path, depth + 1)?;
            if name == "<<" {
                self.refuse(
                    span,
                    &entry_path,
                    "a merge key",
                    "the keys themselves (merging is not part of this format)",
                );
            } else if let Some(line) = lines.get(&name) {
                let found = format!("{} a second time", shown_text(&name));
                self.refuse(span, &entry_path, &found, &format!("each key once (the first is in line {line})"));
            } else {
                lines.insert(name.clone(), span.start.line());
                entries.push(Entry { name, spot: self.spot(span.start, &entry_path), value });
            }
        }
    }

    fn alias(&mut self, anchor: usize, span: Span, path: &str, depth: usize) -> Built<Node> {
        let Some(original) = self.anchors.get(&anchor).cloned() else {
            return Err(self.error(span.start, path, "an alias of what it is part of", "the value itself"));
        };
        self.count(original.size(), span, path)?;
        if depth + original.height() > DEPTH_MAX {
            let expected = format!("at most {DEPTH_MAX} levels");
            return Err(self.error(span.start, path, "an alias that nests too deep", &expected));
        }
        Ok(original.at_path(path))
    }

    fn count(&mut self, nodes: usize, span: Span, path: &str) -> Built<()> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            let expected = format!("at most {NODES_MAX} values in a file");
            return Err(self.error(span.start, path, "more values", &expected));
        }
        Ok(())
    }

    /// Whether the tag says "text"; any other tag is refused.
    fn is_text_tag(&mut self, tag: Option<&Tag>, span: Span, path: &str) -> bool {
        match tag.map(|tag| tag.core_suffix() == Some("str")) {
            None => false,
            Some(true) => true,
            Some(false) => {
                self.refuse(span, path, "a tag", "no tag but `!!str`");
                false
            }
        }
    }

    fn refuse(&mut self, span: Span, path: &str, found: &str, expected: &str) {
        let error = self.error(span.start, path, found, expected);
        self.errors.push(*error);
    }

    fn error(&self, at: Marker, path: &str, found: &str, expected: &str) -> Box<ConfigError> {
        let spot = self.spot(at, path);
        Box::new(ConfigError { spot, found: found.to_owned(), expected: expected.to_owned(), nearest: None })
    }

    fn spot(&self, at: Marker, path: &str) -> Spot {
        Spot { place: (self.place)(Some((at.line(), at.col() + 1))), path: path.to_owned() }
    }
}
