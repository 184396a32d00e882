use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fides_core::{Fault, Value};
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars, compile, unwrap_valr};
use jaq_json::Val;

use super::budget::{Exhausted, Meter, Metered, Run};
use super::functions::{REMOVED, definitions, natives};
use super::reads::Reads;
use super::value::{into_value, object};

/// Longest program, and the stack that reading it may take: the parser recurses, at worst once per character.
const PROGRAM_BYTES_MAX: usize = 16 << 10;
const COMPILE_STACK_BYTES: usize = 256 << 20;

/// A compiled jq program. Shared by threads; a run keeps nothing.
pub(crate) struct Program {
    text: String,
    filter: Filter<Metered>,
    reads: Reads,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "jq `{}`", self.text)
    }
}

/// A record as the input of programs.
#[derive(Clone, Debug)]
pub(crate) struct Input(Val);

impl Input {
    pub fn new(names: &[String], values: &[Value<'_>]) -> Result<Self, Fault> {
        object(names.iter().map(String::as_str).zip(values)).map(Self)
    }
}

impl Program {
    /// Compiles a program; the error says what is wrong with it.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > PROGRAM_BYTES_MAX {
            return Err(format!("a jq program of {} bytes; at most {PROGRAM_BYTES_MAX} are read", text.len()));
        }
        let text = text.to_owned();
        let reader = std::thread::Builder::new().stack_size(COMPILE_STACK_BYTES).spawn(move || read(text));
        let reader = reader.map_err(|error| format!("no thread to read a jq program: {error}"))?;
        reader.join().unwrap_or_else(|_| Err("a jq program that its reader failed on".to_owned()))
    }

    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// The one output of the program; none when it gives nothing. Everything else is a Permanent fault that names the
    /// program. Bounded in steps and in stack. Not in memory, nor in how deep the values nest that it makes on its way
    /// (`"x" * 1e9`, a list in a list a million times): the configuration is trusted that far. Calculating with a decimal
    /// makes it a float, as jq does; passing it on does not.
    pub fn run(&self, input: &Input) -> Result<Option<Value<'static>>, Fault> {
        let meter = Meter::start();
        let run = Run { terms: &self.filter.lut, meter: &meter };
        let outputs = || {
            let context = Ctx::<Metered>::new(run, Vars::new([]));
            let mut outputs = self.filter.id.run((context, input.0.clone())).map(unwrap_valr);
            let first = match outputs.next() {
                None => return Ok(None),
                Some(Ok(value)) => into_value(&value)?,
                Some(Err(error)) => return Err(Fault::permanent(shortened(&error.to_string()))),
            };
            match outputs.next() {
                None => Ok(Some(first)),
                Some(_) => Err(Fault::permanent("it gives more than one value").advise("collect them: [ … ]")),
            }
        };
        let result = catch_unwind(AssertUnwindSafe(outputs)).unwrap_or_else(|payload| {
            let exhausted = payload.downcast_ref::<Exhausted>();
            Err(Fault::permanent(exhausted.map_or_else(|| "it failed inside jq".to_owned(), |why| why.message())))
        });
        result.map_err(|fault| fault.at(format_args!("jq `{}`", shortened(&self.text))))
    }
}

fn read(text: String) -> Result<Program, String> {
    let arena = Arena::default();
    let loaded = Loader::new(definitions()).load(&arena, File { code: text.as_str(), path: () });
    let modules = loaded.map_err(|errors| explain_syntax(&text, errors))?;
    let filter = Compiler::default().with_funs(natives()).compile(modules).map_err(|errors| explain_names(&errors))?;
    let reads = load::parse(&text, |parser| parser.term()).map_or(Reads::All, |term| Reads::of(&term));
    Ok(Program { text, filter, reads })
}

fn explain_syntax(text: &str, errors: load::Errors<&str, ()>) -> String {
    let first = errors.into_iter().next().map(|(_, error)| error);
    let (expected, found) = match first {
        Some(load::Error::Lex(errors)) => match errors.into_iter().next() {
            Some((expected, found)) => (expected.as_str().to_owned(), found),
            None => ("a token".to_owned(), ""),
        },
        Some(load::Error::Parse(errors)) => match errors.into_iter().next() {
            Some((expected, found)) => (expected.as_str().to_owned(), found),
            None => ("a term".to_owned(), ""),
        },
        Some(load::Error::Io(_)) => return format!("`{}`, which includes or imports a module", shortened(text)),
        None => ("a program".to_owned(), ""),
    };
    let place = if found.is_empty() { "the end".to_owned() } else { format!("`{}`", shortened(found)) };
    format!("`{}`, which at {place} should have {expected}", shortened(text))
}

fn explain_names(errors: &compile::Errors<&str, ()>) -> String {
    let undefined = errors.iter().flat_map(|(_, errors)| errors);
    let shown: Vec<_> = undefined
        .map(|(name, what)| match what {
            _ if REMOVED.contains(name) || *name == "$ENV" => {
                format!("{name}, which mappings do not have: a document depends on its record alone")
            }
            compile::Undefined::Filter(arity) => format!("an unknown function {name}/{arity}"),
            other => format!("an unknown {} {name}", other.as_str()),
        })
        .collect();
    shown.join(", ")
}

/// Text of foreign length for a message.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
