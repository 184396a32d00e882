//! One key on both sides: what the mapping makes of the host's record, beside what the target holds.

use bytes::Bytes;
use fides_core::{Fault, Page, Shape, Value};

use super::walk::Found;
use super::{DifferenceKind, FieldDifference};
use crate::soft::Flag;
use crate::{Mapping, Pipeline};

/// A value in a difference is shown up to this many characters.
const SHOWN_CHARS_MAX: usize = 200;

/// How the sides stand under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// The target holds what the mapping makes of the host's record.
    Equal,
    /// The target holds nothing, and is not to: the mapping leaves the record out, or neither side has one.
    Absent,
    /// They disagree.
    Differs(DifferenceKind),
}

/// Judges keys; keeps its buffers from one to the next.
pub(crate) struct Judge<'a> {
    shape: &'a Shape,
    mapping: Mapping<'a>,
    flag: Option<Flag<'a>>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(pipeline: &'a Pipeline) -> Self {
        let mapping = Mapping::new(&*pipeline.mapper, &pipeline.selection, &pipeline.limits);
        Self { shape: pipeline.shape(), mapping, flag: Flag::of(pipeline) }
    }

    /// Judges one key; `excluded` is set where the mapping leaves the host's record out.
    pub(crate) fn judge(&mut self, host: Option<Found<'_>>, target: Option<Found<'_>>, excluded: &mut bool) -> Judged {
        let document = match host.map(|(page, at)| self.mapping.map(page, at)).transpose() {
            Err(_) => return Judged::Differs(DifferenceKind::Unmappable),
            Ok(mapped) => {
                *excluded = matches!(mapped, Some(None));
                mapped.flatten()
            }
        };
        match (document, target) {
            (None, None) => Judged::Absent,
            (Some(_), None) => Judged::Differs(DifferenceKind::Missing),
            // It says itself that its record is gone.
            (None, Some((page, at))) if self.flag.as_ref().is_some_and(|flag| flag.is_set(page, at)) => Judged::Absent,
            (None, Some(_)) => Judged::Differs(DifferenceKind::Extra),
            (Some(document), Some((page, at))) if self.is_same(&document, page, at) => Judged::Equal,
            (Some(_), Some(_)) => Judged::Differs(DifferenceKind::Different),
        }
    }

    /// Whether the target's row means what the document does. One that cannot be read does not.
    fn is_same(&self, document: &Bytes, page: &Page, at: usize) -> bool {
        if page.rows.get(at) == &**document {
            return true;
        }
        let (Ok(expected), Ok(found)) = (fides_core::decode_row(document), page.values(at)) else { return false };
        let absent = Value::Absent;
        (0..self.shape.fields.len()).all(|at| {
            let (expected, found) = (expected.get(at).unwrap_or(&absent), found.get(at).unwrap_or(&absent));
            expected == found || fides_format::same(expected, found)
        })
    }

    /// Which fields differ, or why that cannot be said.
    pub(crate) fn explain(&mut self, host: Option<Found<'_>>, target: Option<Found<'_>>) -> Explained {
        let explained = (|| {
            let document = host.map(|(page, at)| self.mapping.map(page, at)).transpose()?.flatten();
            match (document, target) {
                (Some(document), Some((page, at))) => self.fields_that_differ(&document, page, at),
                _ => Ok(Vec::new()),
            }
        })();
        match explained {
            Ok(fields) => Explained { fields, reason: None },
            Err(fault) => Explained { fields: Vec::new(), reason: Some(fault.to_string()) },
        }
    }

    fn fields_that_differ(&self, document: &[u8], page: &Page, at: usize) -> Result<Vec<FieldDifference>, Fault> {
        let expected = fides_core::decode_row(document)?;
        let found = page.values(at)?;
        let absent = Value::Absent;
        let fields = self.shape.fields.iter().enumerate();
        Ok(fields
            .map(|(at, field)| (field, expected.get(at).unwrap_or(&absent), found.get(at).unwrap_or(&absent)))
            .filter(|(_, expected, found)| expected != found && !fides_format::same(expected, found))
            .map(|(field, expected, found)| FieldDifference {
                field: field.name.clone(),
                expected: shown(expected),
                found: shown(found),
            })
            .collect())
    }
}

/// A difference in words.
pub(crate) struct Explained {
    pub(crate) fields: Vec<FieldDifference>,
    pub(crate) reason: Option<String>,
}

/// A value for people, bounded.
pub(super) fn shown(value: &Value<'_>) -> String {
    let text = fides_format::to_json(value);
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
