use fides_core::{Kind, Value};

/// What the documents of a pipeline consist of.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The fields.
    pub fields: Fields,
    /// A jq condition; where it gives false, null or nothing, the record has no document.
    pub when: Option<String>,
    /// The host's key columns.
    pub key: Vec<String>,
}

/// The fields of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Fields {
    /// The host's columns under their own names, all or these, and then the included tables.
    Same(Option<Vec<String>>),
    /// Target fields, each with where its value comes from.
    Mapped(Vec<(String, Source)>),
}

/// Where the value of a field comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A column, or what it holds further down.
    Column {
        /// The column or include, then the way into it. A column whose own name is the whole path wins.
        path: Vec<String>,
        /// The kind it is converted to.
        cast: Option<Kind>,
        /// What stands in for NULL or an absent value; becomes the kind of the field.
        default: Option<Value<'static>>,
    },
    /// An object of fields of its own.
    Object(Vec<(String, Source)>),
    /// The same value in every document.
    Const(Value<'static>),
    /// The result of a jq program on the record, an object of columns and includes.
    Jq {
        /// The program.
        program: String,
        /// The kind of its result.
        kind: Kind,
    },
}

impl Source {
    /// A column, taken over as it is.
    pub fn column(name: impl Into<String>) -> Self {
        Self::Column { path: vec![name.into()], cast: None, default: None }
    }
}
