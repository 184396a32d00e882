//! The configuration as a tree of nodes that know where they were written and what their path is, so that any later
//! step can refuse a value with its place.

use super::errors::Spot;

/// One value of the file or of an environment variable.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub spot: Spot,
    pub content: Content,
}

/// What a node holds. A plain scalar keeps its text: whether `0.10` is a number, and which, is for its reader to say.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A scalar without quotes, whose text may mean a number, a truth value or nothing.
    Plain(String),
    /// A scalar that is text whatever it looks like.
    Quoted(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map with its value; keys are unique in a map.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: String,
    /// Where the key is written, which is not where its value is.
    pub spot: Spot,
    pub value: Node,
}

impl Node {
    /// The text of a scalar as written, before any `${…}` in it is replaced.
    pub fn scalar(&self) -> Option<&str> {
        match &self.content {
            Content::Plain(text) | Content::Quoted(text) => Some(text),
            Content::List(_) | Content::Map(_) => None,
        }
    }

    /// The text of a scalar that has no quotes.
    pub fn plain(&self) -> Option<&str> {
        match &self.content {
            Content::Plain(text) => Some(text),
            _ => None,
        }
    }

    /// Whether nothing was written: an empty value, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.plain(), Some("" | "~" | "null" | "Null" | "NULL"))
    }

    /// The entries of a map; nothing written counts as a map without entries.
    pub fn entries(&self) -> Option<&[Entry]> {
        match &self.content {
            Content::Map(entries) => Some(entries),
            _ if self.is_null() => Some(&[]),
            _ => None,
        }
    }

    /// The value under a key of a map.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entries()?.iter().find(|entry| entry.name == name).map(|entry| &entry.value)
    }

    /// How many nodes this one consists of, itself included.
    pub fn size(&self) -> usize {
        1 + self.children().map(Node::size).sum::<usize>()
    }

    /// How many levels it has, itself included.
    pub fn height(&self) -> usize {
        1 + self.children().map(Node::height).max().unwrap_or(0)
    }

    /// The nodes of a list or a map.
    pub fn children(&self) -> Box<dyn Iterator<Item = &Node> + '_> {
        match &self.content {
            Content::List(items) => Box::new(items.iter()),
            Content::Map(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
            Content::Plain(_) | Content::Quoted(_) => Box::new(std::iter::empty()),
        }
    }

    /// Moves a copy to another path, as an alias or an override does; the places stay those of the original.
    pub fn at_path(mut self, path: &str) -> Self {
        match &mut self.content {
            Content::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    take(item, |item| item.at_path(&item_path(path, index)));
                }
            }
            Content::Map(entries) => {
                for entry in entries {
                    entry.spot.path = key_path(path, &entry.name);
                    take(&mut entry.value, |value| value.at_path(&entry.spot.path));
                }
            }
            Content::Plain(_) | Content::Quoted(_) => {}
        }
        path.clone_into(&mut self.spot.path);
        self
    }

    /// The node as an error may print it.
    pub fn shown(&self) -> String {
        match &self.content {
            Content::Map(_) => "a map".to_owned(),
            Content::List(_) => "a list".to_owned(),
            Content::Plain(_) if self.is_null() => "nothing".to_owned(),
            Content::Plain(text) if is_bare_word(text) => text.clone(),
            Content::Plain(text) | Content::Quoted(text) => shown_text(text),
        }
    }
}

fn take(node: &mut Node, change: impl FnOnce(Node) -> Node) {
    let spot = node.spot.clone();
    let original = std::mem::replace(node, Node { spot, content: Content::Plain(String::new()) });
    *node = change(original);
}

/// Truth values and numbers are shown as they are written, so that they differ from text that looks like them.
fn is_bare_word(text: &str) -> bool {
    text.len() <= SHOWN_CHARACTERS_MAX && (matches!(text, "true" | "false") || text.parse::<f64>().is_ok())
}

const SHOWN_CHARACTERS_MAX: usize = 60;

/// Text as an error may print it: quoted, short, and never a url or a connection string, whose password would leak
/// from a misspelt key.
pub(super) fn shown_text(text: &str) -> String {
    if text.contains("://") {
        return "a url (not shown)".to_owned();
    }
    if text.to_ascii_lowercase().contains("password=") {
        return "a text with a password (not shown)".to_owned();
    }
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The path of a key: `pipelines.orders`, with quotes around a key that is not a plain word.
pub(super) fn key_path(parent: &str, name: &str) -> String {
    let is_word = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    let shown = if is_word { name.to_owned() } else { shown_text(name) };
    if parent.is_empty() { shown } else { format!("{parent}.{shown}") }
}

/// The path of a list's item, counted from zero: `key[1]`.
pub(super) fn item_path(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}
