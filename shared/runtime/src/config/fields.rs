//! Sections: maps with known keys. A section names its keys once, with their forms and meanings; the same list reads
//! the map, refuses unknown keys and becomes the JSON Schema.

use std::marker::PhantomData;

use serde_json::{Map, Value, json};

use super::form::{Definitions, Form, Reading};
use super::node::{Content, Node};

/// A map with known keys.
pub(super) trait Section: Sized {
    /// Its name among the definitions of the schema.
    const NAME: &'static str;
    /// What it is for.
    const ABOUT: &'static str;

    /// Names every key, then combines what was read. All keys must be named before anything is returned: a key that
    /// was not named is an unknown one. The last act may be `None` only where a key or a check has refused.
    fn read(fields: &mut Fields<'_, '_>) -> Option<Self>;
}

/// The keys of one section, while it is read or described.
pub(super) struct Fields<'a, 'r> {
    names: Vec<&'static str>,
    mode: Mode<'a, 'r>,
}

enum Mode<'a, 'r> {
    Read {
        reading: &'a mut Reading<'r>,
        node: &'a Node,
    },
    Describe {
        definitions: &'a mut Definitions,
        properties: Map<String, Value>,
        required: Vec<&'static str>,
        choices: Vec<Value>,
    },
}

#[expect(clippy::needless_pass_by_value, reason = "a form is written where its key is named, and used once")]
impl Fields<'_, '_> {
    /// A key that must be there.
    pub fn required<F: Form>(&mut self, name: &'static str, about: &str, form: F) -> Option<F::Value> {
        if let Mode::Describe { required, .. } = &mut self.mode {
            required.push(name);
        }
        match self.value(name, about, Value::Null, &form) {
            Found::Value(value) => value,
            Found::Nothing => self.check(|reading, node| {
                reading.refuse_at(&node.spot, format!("no key `{name}`"), format!("`{name}`: {about}"))
            }),
        }
    }

    /// A key that must be there, though its value may be null.
    pub fn required_or_null<F: Form>(&mut self, name: &'static str, about: &str, form: F) -> Option<F::Value> {
        let null = self.check(|_, node| node.get(name).filter(|value| value.is_null()).cloned());
        match null {
            Some(null) => {
                self.names.push(name);
                self.check(|reading, _| form.read(reading, &null))
            }
            None => self.required(name, about, form),
        }
    }

    /// A key that may be absent or null.
    #[expect(clippy::option_option, reason = "refused, absent, and read are three things")]
    pub fn optional<F: Form>(&mut self, name: &'static str, about: &str, form: F) -> Option<Option<F::Value>> {
        match self.value(name, about, Value::Null, &form) {
            Found::Value(value) => value.map(Some),
            Found::Nothing => Some(None),
        }
    }

    /// A key with a default, which is written as it would be in the file.
    pub fn defaulted<F: Form>(&mut self, name: &'static str, about: &str, form: F, default: &str) -> Option<F::Value> {
        match self.value(name, about, scalar(default), &form) {
            Found::Value(value) => value,
            Found::Nothing => self.check(|reading, node| {
                let content = Content::Plain(default.to_owned());
                form.read(reading, &Node { spot: node.spot.clone(), content })
            }),
        }
    }

    /// A key that leaves what is there when it is absent. Only the schema shows the default.
    #[expect(clippy::option_option, reason = "refused, absent, and read are three things")]
    pub fn patched<F: Form>(
        &mut self,
        name: &'static str,
        about: &str,
        form: F,
        default: impl Into<Value>,
    ) -> Option<Option<F::Value>> {
        match self.value(name, about, default.into(), &form) {
            Found::Value(value) => value.map(Some),
            Found::Nothing => Some(None),
        }
    }

    /// Exactly one of the keys must be there; they are optional otherwise.
    pub fn exactly_one(&mut self, names: &[&'static str]) -> Option<()> {
        let expected = format!("exactly one of {}", list(names));
        match &mut self.mode {
            Mode::Describe { choices, .. } => {
                choices.extend(names.iter().map(|name| json!({ "required": [name] })));
                None
            }
            Mode::Read { reading, node } => {
                let present: Vec<_> = names.iter().copied().filter(|name| has(node, name)).collect();
                match present[..] {
                    [_] => Some(()),
                    [] => reading.refuse_at(&node.spot, format!("none of {}", list(names)), expected),
                    [..] => reading.refuse_at(&node.spot, list(&present), expected),
                }
            }
        }
    }

    /// A check of one's own on the whole section, while it is read.
    pub fn check<T>(&mut self, check: impl FnOnce(&mut Reading<'_>, &Node) -> Option<T>) -> Option<T> {
        match &mut self.mode {
            Mode::Read { reading, node } => check(reading, node),
            Mode::Describe { .. } => None,
        }
    }

    fn value<F: Form>(&mut self, name: &'static str, about: &str, default: Value, form: &F) -> Found<F::Value> {
        self.names.push(name);
        match &mut self.mode {
            Mode::Read { reading, node } => match node.get(name).filter(|value| !value.is_null()) {
                Some(value) => Found::Value(form.read(reading, value)),
                None => Found::Nothing,
            },
            Mode::Describe { definitions, properties, .. } => {
                properties.insert(name.to_owned(), property(form.schema(definitions), about, default));
                Found::Nothing
            }
        }
    }
}

enum Found<T> {
    Value(Option<T>),
    Nothing,
}

/// The form of a section.
pub(super) struct In<T>(PhantomData<T>);

/// The form of a section.
pub(super) const fn section<T: Section>() -> In<T> {
    In(PhantomData)
}

impl<T: Section> Form for In<T> {
    type Value = T;

    fn read(&self, reading: &mut Reading<'_>, node: &Node) -> Option<T> {
        let Some(entries) = node.entries() else { return reading.refuse(node, T::ABOUT) };
        let mut fields = Fields { names: Vec::new(), mode: Mode::Read { reading, node } };
        let value = T::read(&mut fields);
        let Fields { names, .. } = fields;
        for entry in entries.iter().filter(|entry| !names.contains(&entry.name.as_str())) {
            reading.refuse_key(entry, &names);
        }
        value
    }

    fn schema(&self, definitions: &mut Definitions) -> Value {
        definitions.refer::<T>()
    }
}

/// The schema of a section; use [`Definitions::refer`], which makes it once.
pub(super) fn describe<T: Section>(definitions: &mut Definitions) -> Value {
    let mode = Mode::Describe { definitions, properties: Map::new(), required: Vec::new(), choices: Vec::new() };
    let mut fields = Fields { names: Vec::new(), mode };
    T::read(&mut fields);
    let Mode::Describe { properties, required, choices, .. } = fields.mode else { return Value::Null };
    let mut schema = json!({
        "type": "object",
        "description": T::ABOUT,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !choices.is_empty() {
        schema["oneOf"] = json!(choices);
    }
    schema
}

fn has(node: &Node, name: &str) -> bool {
    node.get(name).is_some_and(|value| !value.is_null())
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
}

/// A default as JSON; nothing stands for a section whose keys have defaults of their own.
fn scalar(default: &str) -> Value {
    match default {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}

/// The schema of a key. `true` (any value) becomes a map, so that there is room for the description.
fn property(schema: Value, about: &str, default: Value) -> Value {
    let mut schema = if schema == json!(true) { json!({}) } else { schema };
    schema["description"] = about.into();
    if !default.is_null() {
        schema["default"] = default;
    }
    schema
}
