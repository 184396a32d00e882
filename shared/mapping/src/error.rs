use std::fmt;

/// A mistake in a mapping: its place, what was found there, what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingError {
    /// The place below the pipeline: `mapping.price`, `when`, `columns`.
    pub place: String,
    /// What was found.
    pub found: String,
    /// What was expected.
    pub expected: String,
    /// The name that was probably meant.
    pub nearest: Option<String>,
}

impl MappingError {
    pub(crate) fn new(place: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { place: place.into(), found: found.into(), expected: expected.into(), nearest: None }
    }

    /// A name that nothing has. `what` says what it was to name.
    pub(crate) fn unknown<'n>(
        place: impl Into<String>,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'n str>,
    ) -> Self {
        let known: Vec<_> = known.collect();
        let expected = if known.is_empty() { "there is none".to_owned() } else { listed(&known) };
        let nearest = nearest(name, &known).map(str::to_owned);
        Self { nearest, ..Self::new(place, format!("no {what} {name:?}"), expected) }
    }
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}, expected {}", self.place, self.found, self.expected)?;
        match &self.nearest {
            Some(nearest) => write!(f, " (did you mean {nearest:?}?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for MappingError {}

/// The names, as far as a person reads them.
fn listed(names: &[&str]) -> String {
    const NAMES_MAX: usize = 20;
    let shown = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMES_MAX + 1) {
        Some(more) => format!("one of {shown} and {} more", more + 1),
        None => format!("one of {shown}"),
    }
}

/// The known name that `name` was probably meant to be.
fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let distance = |other: &&str| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let closest = known.iter().min_by_key(|other| distance(other))?;
    (distance(closest) <= 1.max(name.chars().count() / 3)).then_some(closest)
}
