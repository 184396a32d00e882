use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fides_core::port::Mapper;
use fides_core::{Column, Fault, Field, Include, Kind, Namespace, Selection, Shape, Table, Value};

use crate::error::MappingError;
use crate::jq::{Program, Reads};
use crate::literal::{flat, literal};
use crate::mapper::RecordMapper;
use crate::operation::Operation;
use crate::recipe;
use crate::resolve::{Names, Origin};
use crate::spec::{Fields, Source, Spec};

/// A mapping that is ready to run, and what it reads.
#[derive(Clone)]
pub struct Compiled {
    /// Maps rows that consist of `columns`, then one JSON value per include.
    pub mapper: Arc<dyn Mapper>,
    /// The columns that the mapping reads and those of the key, in the table's order. A column that is not here is not
    /// part of the fingerprint: its changes publish nothing.
    pub columns: Vec<Column>,
    /// The includes that the mapping reads.
    pub includes: Vec<Include>,
    /// The key columns.
    pub key: Vec<String>,
}

impl Compiled {
    /// What to read of the host, seeded with the mapping's revision.
    pub fn selection(&self, namespace: Namespace, page_records_max: usize) -> Selection {
        Selection {
            namespace,
            key: self.key.clone(),
            columns: self.columns.clone(),
            includes: self.includes.clone(),
            seed: self.mapper.revision(),
            page_records_max,
        }
    }
}

/// Checks a mapping against the host's table and makes it ready to run. `includes` are the pipeline's relations with
/// their columns as the host describes them.
///
/// A jq program whose text shows that it reads only certain fields (`.a`, `.b.c`, also in arithmetic, strings, objects,
/// conditions) makes the mapping read those; any other may read everything, so everything is selected and every column is
/// part of the fingerprint.
///
/// All mistakes are reported at once.
pub fn compile(spec: &Spec, table: &Table, includes: &[Include]) -> Result<Compiled, Vec<MappingError>> {
    let mut compiler = Compiler { names: Names { table, includes }, unread: &[], errors: Vec::new() };
    let parts = compiler.parts(spec);
    if !compiler.errors.is_empty() {
        return Err(compiler.errors);
    }
    let reads = compiler.reads(&spec.key, &parts.fields, parts.when.as_deref());
    Ok(assemble(spec, table, includes, &reads, parts))
}

/// The mistakes of a mapping some of whose relations could not be described: whatever is asked of those, by their names in
/// `unread`, counts as there, so that one mistake is not told twice.
pub fn mistakes(spec: &Spec, table: &Table, includes: &[Include], unread: &[String]) -> Vec<MappingError> {
    let mut compiler = Compiler { names: Names { table, includes }, unread, errors: Vec::new() };
    compiler.parts(spec);
    compiler.errors
}

/// Compiles a mapping that was compiled before against the columns and includes that it read then: it reads nothing else.
pub(crate) fn again(spec: &Spec, columns: Vec<Column>, includes: &[Include]) -> Result<Compiled, Fault> {
    let table = Table {
        columns,
        primary_key: spec.key.clone(),
        references: Vec::new(),
        unique: Vec::new(),
        contested: Vec::new(),
        records_estimate: 0,
        warnings: Vec::new(),
        store_warnings: Vec::new(),
    };
    compile(spec, &table, includes).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Fault::permanent(format!("the mapping that was kept is a mistake to this release: {}", errors.join("; ")))
    })
}

/// What was compiled of a mapping without mistakes.
struct Parts {
    fields: Vec<Target>,
    when: Option<Arc<Program>>,
    key: Vec<usize>,
}

/// Points the operations at the positions that the origins have in a selected row. `reads` is in the order of the host,
/// columns before includes, and holds every origin of the operations.
fn assemble(spec: &Spec, table: &Table, includes: &[Include], reads: &BTreeSet<Origin>, parts: Parts) -> Compiled {
    let position: BTreeMap<Origin, usize> = reads.iter().enumerate().map(|(at, origin)| (*origin, at)).collect();
    let (mut columns, mut related) = (Vec::new(), Vec::new());
    for origin in reads {
        match *origin {
            Origin::Column(at) => columns.push(table.columns[at].clone()),
            Origin::Include(at) => related.push(includes[at].clone()),
        }
    }
    let fields = parts.fields.iter().map(|field| Field { name: field.name.clone(), kind: field.kind }).collect();
    let operations =
        parts.fields.into_iter().map(|field| field.operation.pointing(&|origin| position[&origin])).collect();
    let columns_read = columns.iter().map(|column: &Column| column.name.clone());
    let recipe = recipe::encode(spec, &columns, &related);
    let mapper = RecordMapper {
        revision: recipe::revision(&recipe),
        recipe,
        shape: Arc::new(Shape { fields, key: parts.key }),
        operations,
        when: parts.when,
        names: columns_read.chain(related.iter().map(|include| include.name.clone())).collect(),
    };
    Compiled { mapper: Arc::new(mapper), columns, includes: related, key: spec.key.clone() }
}

/// A field of the document, compiled.
struct Target {
    name: String,
    operation: Operation,
    kind: Kind,
}

struct Compiler<'a> {
    names: Names<'a>,
    /// Relations of which nothing is known.
    unread: &'a [String],
    errors: Vec<MappingError>,
}

impl Compiler<'_> {
    fn refuse<T>(&mut self, error: MappingError) -> Option<T> {
        self.errors.push(error);
        None
    }

    fn parts(&mut self, spec: &Spec) -> Parts {
        self.includes();
        let fields = self.fields(&spec.fields);
        let when = spec.when.as_ref().and_then(|program| self.program("when", program));
        let key = self.key(&spec.key, &spec.fields, &fields);
        Parts { fields, when, key }
    }

    /// A record has one value per name.
    fn includes(&mut self) {
        for (at, include) in self.names.includes.iter().enumerate() {
            let place = format!("include.{}", include.name);
            if self.names.column(&include.name).is_some() {
                let found = format!("{:?}, which is a column of the host too", include.name);
                self.errors.push(MappingError::new(place, found, "a name of its own"));
            } else if self.names.includes[..at].iter().any(|other| other.name == include.name) {
                let found = format!("{:?} a second time", include.name);
                self.errors.push(MappingError::new(place, found, "each name once"));
            }
        }
    }

    fn fields(&mut self, fields: &Fields) -> Vec<Target> {
        match fields {
            Fields::Mapped(fields) => {
                if fields.is_empty() {
                    self.errors.push(MappingError::new("mapping", "no field", "at least one"));
                }
                self.mapped("mapping", fields)
            }
            Fields::Same(columns) => self.same(columns.as_deref()),
        }
    }

    /// Columns under their own names, then the includes.
    fn same(&mut self, columns: Option<&[String]>) -> Vec<Target> {
        let table = self.names.table;
        let columns: Vec<String> = match columns {
            Some(columns) => columns.to_vec(),
            None => table.columns.iter().map(|column| column.name.clone()).collect(),
        };
        self.unique("columns", columns.iter());
        let mut targets = Vec::new();
        for name in &columns {
            let Some(at) = self.names.column(name) else {
                let known = table.columns.iter().map(|column| column.name.as_str());
                self.errors.push(MappingError::unknown("columns", "column", name, known));
                continue;
            };
            let kind = table.columns[at].kind;
            targets.push(Target { name: name.clone(), operation: Operation::Take(Origin::Column(at)), kind });
        }
        targets.extend(self.names.includes.iter().enumerate().map(|(at, include)| Target {
            name: include.name.clone(),
            operation: Operation::Take(Origin::Include(at)),
            kind: Kind::Json,
        }));
        targets
    }

    fn unique<'n>(&mut self, place: &str, names: impl Iterator<Item = &'n String>) {
        let mut known = BTreeSet::new();
        for name in names {
            if name.is_empty() {
                self.errors.push(MappingError::new(place, "a field without a name", "a name"));
            } else if !known.insert(name) {
                self.errors.push(MappingError::new(place, format!("the field {name:?} twice"), "each field once"));
            }
        }
    }

    fn mapped(&mut self, place: &str, fields: &[(String, Source)]) -> Vec<Target> {
        self.unique(place, fields.iter().map(|(name, _)| name));
        let mut targets = Vec::with_capacity(fields.len());
        for (name, source) in fields {
            if let Some((operation, kind)) = self.source(&format!("{place}.{name}"), source) {
                targets.push(Target { name: name.clone(), operation, kind });
            }
        }
        targets
    }

    fn source(&mut self, place: &str, source: &Source) -> Option<(Operation, Kind)> {
        match source {
            Source::Column { path, cast, default } => self.column(place, path, *cast, default.as_ref()),
            Source::Object(fields) => {
                let fields = self.mapped(&format!("{place}.object"), fields);
                let fields = fields.into_iter().map(|field| (field.name, field.operation)).collect();
                Some((Operation::Object(fields), Kind::Json))
            }
            Source::Const(value) => {
                let kind = value.kind().unwrap_or(Kind::Any);
                Some((Operation::Const(flat(value.clone())), kind))
            }
            Source::Jq { program, kind } => {
                let program = self.program(place, program)?;
                Some((Operation::Jq { program, kind: *kind }, *kind))
            }
        }
    }

    fn column(
        &mut self,
        place: &str,
        path: &[String],
        cast: Option<Kind>,
        default: Option<&Value<'static>>,
    ) -> Option<(Operation, Kind)> {
        let resolved = match self.names.resolve(place, path) {
            Ok(resolved) => resolved,
            Err(_) if path.first().is_some_and(|name| self.unread.contains(name)) => return None,
            Err(error) => return self.refuse(error),
        };
        let from = resolved.origin;
        let read = if resolved.keys.is_empty() {
            Operation::Take(from)
        } else {
            Operation::Follow { from, keys: resolved.keys, kind: resolved.kind }
        };
        let kind = cast.unwrap_or(resolved.kind);
        let default = match default.map(|value| literal(value, kind)) {
            Some(Err(error)) => {
                let error = MappingError::new(format!("{place}.default"), error, format!("a value of kind {kind}"));
                return self.refuse(error);
            }
            Some(Ok(value)) => Some(value),
            None => None,
        };
        let cast = cast.filter(|kind| *kind != resolved.kind);
        if cast.is_none() && default.is_none() {
            return Some((read, kind));
        }
        Some((Operation::Convert { of: Box::new(read), cast, default }, kind))
    }

    fn program(&mut self, place: &str, text: &str) -> Option<Arc<Program>> {
        let program = match Program::compile(text) {
            Ok(program) => program,
            Err(found) => return self.refuse(MappingError::new(place, found, "a jq program")),
        };
        if let Reads::Only(fields) = program.reads() {
            let is_unknown = |name: &&String| self.names.find(name).is_none() && !self.unread.contains(name);
            for name in fields.iter().filter(is_unknown) {
                let error = MappingError::unknown(place, "column", name, self.names.all());
                self.errors.push(error);
            }
        }
        Some(Arc::new(program))
    }

    /// L12: the target's address is the host's key under other names: each key column is taken over as it is, once.
    fn key(&mut self, key: &[String], spec: &Fields, fields: &[Target]) -> Vec<usize> {
        let place = if matches!(spec, Fields::Mapped(_)) { "mapping" } else { "columns" };
        if key.is_empty() {
            let expected = "the columns that identify a record; the table has no primary key";
            self.errors.push(MappingError::new("key", "no column", expected));
        }
        key.iter().filter_map(|name| self.key_field(place, name, fields)).collect()
    }

    fn key_field(&mut self, place: &str, name: &str, fields: &[Target]) -> Option<usize> {
        let Some(at) = self.names.column(name) else {
            let known = self.names.table.columns.iter().map(|column| column.name.as_str());
            return self.refuse(MappingError::unknown("key", "column", name, known));
        };
        let column = &self.names.table.columns[at];
        let ordered = [Kind::Bool, Kind::I64, Kind::U64, Kind::String, Kind::Uuid, Kind::Bytes, Kind::Any];
        if !ordered.contains(&column.kind) {
            let found = format!("the column {name:?} of kind {} ({})", column.kind, column.native);
            let expected = "columns of kind i64, u64, bool, string, uuid or bytes, whose order every store shares";
            return self.refuse(MappingError::new("key", found, expected));
        }
        let takes = |field: &Target| matches!(field.operation, Operation::Take(Origin::Column(from)) if from == at);
        let found: Vec<_> = (0..fields.len()).filter(|&field| takes(&fields[field])).collect();
        match found[..] {
            [field] => Some(field),
            [] => {
                let found = format!("no field that takes the key column {name:?} over as it is");
                let expected = "one without cast, default, const or jq, at the top of the document (L12)";
                self.refuse(MappingError::new(place, found, expected))
            }
            _ => {
                let names: Vec<_> = found.iter().map(|&field| format!("{:?}", fields[field].name)).collect();
                let found = format!("{} that take the key column {name:?} over as it is", names.join(" and "));
                let expected = "exactly one, the field that identifies the document (L12); copy it by jq";
                self.refuse(MappingError::new(place, found, expected))
            }
        }
    }

    /// Everything that the mapping reads, in the order of the host.
    fn reads(&self, key: &[String], fields: &[Target], when: Option<&Program>) -> BTreeSet<Origin> {
        let (mut origins, mut programs) = (Vec::new(), Vec::from_iter(when));
        for field in fields {
            field.operation.origins(&mut origins);
            field.operation.programs(&mut programs);
        }
        origins.extend(key.iter().filter_map(|name| self.names.column(name)).map(Origin::Column));
        for program in programs {
            match program.reads() {
                Reads::Only(fields) => origins.extend(fields.iter().filter_map(|name| self.names.find(name))),
                Reads::All => {
                    origins.extend((0..self.names.table.columns.len()).map(Origin::Column));
                    origins.extend((0..self.names.includes.len()).map(Origin::Include));
                }
            }
        }
        origins.into_iter().collect()
    }
}
