use std::collections::BTreeSet;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Pattern, Term};
use jaq_core::path::Part;

/// What a program reads of the record that is its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// These fields of it at most.
    Only(BTreeSet<String>),
    /// Perhaps everything.
    All,
}

impl Reads {
    fn nothing() -> Self {
        Self::Only(BTreeSet::new())
    }

    fn field(name: &str) -> Self {
        Self::Only(BTreeSet::from([name.to_owned()]))
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Only(mut left), Self::Only(right)) => {
                left.extend(right);
                Self::Only(left)
            }
            _ => Self::All,
        }
    }

    /// What a term reads whose input is the record. Errs on the side of everything: a term is looked into only where it
    /// is certain which of its parts get the record as their input.
    pub fn of(term: &Term<&str>) -> Self {
        match term {
            Term::Num(_) | Term::Var(_) | Term::Break(_) | Term::Arr(None) => Self::nothing(),
            Term::Str(_, parts) => all(parts.iter().map(|part| match part {
                StrPart::Term(term) => Self::of(term),
                _ => Self::nothing(),
            })),
            // The input of `catch` is the error.
            Term::Arr(Some(term)) | Term::Neg(term) | Term::Label(_, term) | Term::TryCatch(term, _) => Self::of(term),
            Term::Obj(entries) => all(entries.iter().map(|(name, value)| match (text(name), value) {
                (_, Some(value)) => Self::of(name).and(Self::of(value)),
                (Some(name), None) => Self::field(name),
                (None, None) if matches!(name, Term::Var(_)) => Self::nothing(),
                (None, None) => Self::All,
            })),
            Term::BinOp(left, operator, right) => Self::of_operator(left, operator, right),
            Term::Fold(_, over, pattern, arguments) => {
                let start = arguments.first().map_or(Self::All, Self::of);
                Self::of(over).and(Self::of_pattern(pattern)).and(start)
            }
            Term::IfThenElse(cases, Some(otherwise)) => {
                let cases = all(cases.iter().map(|(condition, then)| Self::of(condition).and(Self::of(then))));
                cases.and(Self::of(otherwise))
            }
            Term::Call("null" | "true" | "false" | "empty", arguments) if arguments.is_empty() => Self::nothing(),
            Term::Path(from, path) => Self::of_path(from, &path.0),
            _ => Self::All,
        }
    }

    fn of_operator(left: &Term<&str>, operator: &BinaryOp<&str>, right: &Term<&str>) -> Self {
        match operator {
            // The right side sees what the left side gives, which is made of what the left side reads.
            BinaryOp::Pipe(None) => Self::of(left),
            BinaryOp::Pipe(Some(pattern)) => Self::of(left).and(Self::of_pattern(pattern)).and(Self::of(right)),
            BinaryOp::Comma | BinaryOp::Alt | BinaryOp::Or | BinaryOp::And | BinaryOp::Math(_) | BinaryOp::Cmp(_) => {
                Self::of(left).and(Self::of(right))
            }
            _ => Self::All,
        }
    }

    fn of_pattern(pattern: &Pattern<&str>) -> Self {
        match pattern {
            Pattern::Var(_) => Self::nothing(),
            Pattern::Arr(parts) => all(parts.iter().map(Self::of_pattern)),
            Pattern::Obj(_) => Self::All,
        }
    }

    fn of_path<O>(from: &Term<&str>, path: &[(Part<Term<&str>>, O)]) -> Self {
        let of_part = |(part, _): &(Part<Term<&str>>, O)| match part {
            Part::Index(term) => Self::of(term),
            Part::Range(from, to) => all([from, to].into_iter().flatten().map(Self::of)),
        };
        match (from, path.split_first()) {
            (Term::Id, Some(((Part::Index(name), _), rest))) => match text(name) {
                Some(name) => Self::field(name).and(all(rest.iter().map(of_part))),
                None => Self::All,
            },
            (Term::Id, _) => Self::All,
            _ => Self::of(from).and(all(path.iter().map(of_part))),
        }
    }
}

fn all(reads: impl Iterator<Item = Reads>) -> Reads {
    reads.fold(Reads::nothing(), Reads::and)
}

/// The text of a string without anything to fill in.
fn text<'t>(term: &Term<&'t str>) -> Option<&'t str> {
    match term {
        Term::Str(None, parts) => match &parts[..] {
            [StrPart::Str(text)] => Some(text),
            _ => None,
        },
        _ => None,
    }
}
