//! The house as ARCHITECTURE.md draws it: imports point down, siblings do not know each other, files stay readable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, PackageId};

/// Lines of a file under `shared` or `services`.
const FILE_LINES_MAX: usize = 500;
/// Lines of a service's `main.rs`.
const MAIN_LINES_MAX: usize = 60;

/// What core may not reach, however indirectly: runtimes, drivers, clocks and sockets.
const NOT_IN_CORE: &[&str] = &[
    "tokio",
    "tokio-util",
    "async-std",
    "smol",
    "mio",
    "socket2",
    "sqlx",
    "sqlx-core",
    "rusqlite",
    "libsqlite3-sys",
    "pgwire-replication",
    "redis",
    "lapin",
    "rustls",
    "chrono",
    "time",
    "tracing",
];
/// What no crate below the adapters may reach.
const DRIVERS: &[&str] = &[
    "sqlx",
    "sqlx-core",
    "rusqlite",
    "libsqlite3-sys",
    "pgwire-replication",
    "redis",
    "lapin",
    "rustls",
    "azure_data_cosmos",
];

/// Where a crate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Floor(u8),
    /// Used by tests of the others, built from the floors below the adapters.
    Testkit,
    /// The tests of the whole: may use everything, is used by nobody.
    Tests,
}

const CORE: Place = Place::Floor(0);
const FORMAT: Place = Place::Floor(1);
const USE_CASES: Place = Place::Floor(2);
const ADAPTERS: Place = Place::Floor(3);
const RUNTIME: Place = Place::Floor(4);
const SERVICES: Place = Place::Floor(5);

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Floor(floor) => write!(out, "floor {floor}"),
            Place::Testkit => out.write_str("the testkit"),
            Place::Tests => out.write_str("the tests of the whole"),
        }
    }
}

/// Where the crate in `folder` (from the root of the workspace) stands; `None` where the plan has no place for it.
fn place_of(folder: &str) -> Option<Place> {
    match folder.split_once('/') {
        Some(("shared", "core")) => Some(CORE),
        Some(("shared", "format" | "cloudevents" | "http" | "sql")) => Some(FORMAT),
        Some(("shared", "engine" | "guard" | "mapping")) => Some(USE_CASES),
        Some(("shared", name)) if ["backplane-", "connector-", "intake-"].iter().any(|kind| name.starts_with(kind)) => {
            Some(ADAPTERS)
        }
        Some(("shared", "runtime")) => Some(RUNTIME),
        Some(("shared", "testkit")) => Some(Place::Testkit),
        Some(("services", _)) => Some(SERVICES),
        None if folder == "tests" => Some(Place::Tests),
        _ => None,
    }
}

/// One crate of the house that names another in its Cargo.toml.
#[derive(Clone, Debug)]
struct Edge {
    from: (String, Place),
    to: (String, Place),
    kind: DependencyKind,
}

/// The rule that an edge breaks; `None` where it keeps all of them.
fn broken(edge: &Edge) -> Option<String> {
    let (from, to) = (edge.from.1, edge.to.1);
    let rule = match (from, to) {
        (_, Place::Tests) => "nothing depends on the tests of the whole",
        (Place::Tests, _) if edge.kind == DependencyKind::Development => return None,
        (Place::Tests, _) => "the tests of the whole have dev-dependencies only",
        (_, Place::Testkit) if edge.kind == DependencyKind::Development => return None,
        (_, Place::Testkit) => "the testkit is a dev-dependency only",
        (Place::Testkit, Place::Floor(_)) if below(to, ADAPTERS) => return None,
        (Place::Testkit, _) => "the testkit knows the floors below the adapters only",
        (Place::Floor(_), Place::Floor(_)) if from == to => "siblings on a floor never depend on each other",
        (Place::Floor(_), Place::Floor(_)) if !below(to, from) => "imports point down only",
        (_, ADAPTERS) if from != RUNTIME => "the runtime is the only crate that knows the adapters",
        (Place::Floor(_), Place::Floor(_)) => return None,
    };
    let (from_name, to_name) = (&edge.from.0, &edge.to.0);
    Some(format!("{from_name} ({from}) -> {to_name} ({to}), {:?} dependency: {rule}", edge.kind))
}

fn below(one: Place, other: Place) -> bool {
    matches!((one, other), (Place::Floor(one), Place::Floor(other)) if one < other)
}

/// The crate's name that its folder asks for.
fn name_for(folder: &str) -> String {
    match folder.split_once('/') {
        Some(("services", "fides")) => "fides".to_owned(),
        Some((_, name)) => format!("fides-{name}"),
        None => format!("fides-{folder}"),
    }
}

/// The workspace, with its graph of dependencies on this machine's platform: what a build of the tests has fetched
/// already.
fn workspace() -> Metadata {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let said = Command::new(cargo).arg("-vV").output().expect("cargo runs");
    let said = String::from_utf8(said.stdout).expect("cargo speaks UTF-8");
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), host.to_owned()])
        .exec()
        .expect("cargo metadata answers")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

/// Folder and name of every crate of the house.
fn members(metadata: &Metadata) -> BTreeMap<String, String> {
    let folder = |manifest: &Path| {
        let folder = manifest.parent().expect("a manifest is in a folder");
        let folder = folder.strip_prefix(metadata.workspace_root.as_std_path()).expect("a member is inside");
        folder.to_str().expect("folders are UTF-8").replace('\\', "/")
    };
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| (folder(package.manifest_path.as_std_path()), package.name.to_string()))
        .collect()
}

/// Everything that a package pulls in by normal dependencies, by name.
fn closure(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().expect("metadata has a graph");
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let names: BTreeMap<&PackageId, String> =
        metadata.packages.iter().map(|package| (&package.id, package.name.to_string())).collect();
    let start = metadata.workspace_packages().into_iter().find(|package| package.name == name).expect("it is a member");
    let mut open = vec![&start.id];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        let normal = |dependency: &&cargo_metadata::NodeDep| {
            dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
        };
        for dependency in nodes[id].deps.iter().filter(normal) {
            if seen.insert(&dependency.pkg) {
                open.push(&dependency.pkg);
            }
        }
    }
    seen.into_iter().map(|id| names[id].clone()).collect()
}

/// Every Rust file under `folder`, with its number of lines.
fn files(folder: &Path) -> Vec<(PathBuf, usize)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the workspace is readable") {
            let path = entry.expect("a folder of the workspace is readable").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
                found.push((path, text.lines().count()));
            }
        }
    }
    found
}

/// What is wrong with a file's length.
fn too_long(path: &Path, lines: usize) -> Option<String> {
    let is_main = path.ends_with("src/main.rs");
    let max = if is_main { MAIN_LINES_MAX } else { FILE_LINES_MAX };
    (lines > max).then(|| format!("{}: {lines} lines, at most {max}", path.display()))
}

fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "ARCHITECTURE.md is broken:\n  {}", findings.join("\n  "));
}

#[test]
fn every_crate_has_a_floor_and_the_name_of_its_folder() {
    let members = members(&workspace());
    assert!(members.len() >= 12, "too few crates to be the house: {members:?}");
    let mut findings = Vec::new();
    for (folder, name) in &members {
        if place_of(folder).is_none() {
            findings.push(format!("{folder}: a crate without a floor"));
        }
        if *name != name_for(folder) {
            findings.push(format!("{folder}: is called {name}, its folder asks for {}", name_for(folder)));
        }
    }
    assert_none(&findings);
}

#[test]
fn imports_point_down_and_siblings_do_not_know_each_other() {
    let metadata = workspace();
    let members = members(&metadata);
    let place: BTreeMap<&str, Place> =
        members.iter().filter_map(|(folder, name)| Some((name.as_str(), place_of(folder)?))).collect();
    let mut edges = Vec::new();
    for package in metadata.workspace_packages() {
        let from = package.name.as_str();
        for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
            let (Some(&of), Some(&to)) = (place.get(from), place.get(dependency.name.as_str())) else {
                panic!("{from} -> {}: a path outside the house", dependency.name);
            };
            let (from, to) = ((from.to_owned(), of), (dependency.name.clone(), to));
            edges.push(Edge { from, to, kind: dependency.kind });
        }
    }
    assert!(edges.len() >= 20, "too few edges to be the house: {edges:?}");
    assert_none(&edges.iter().filter_map(broken).collect::<Vec<_>>());
}

#[test]
fn core_is_pure_and_only_adapters_have_drivers() {
    let metadata = workspace();
    let mut findings = Vec::new();
    for (folder, name) in members(&metadata) {
        let Some(place) = place_of(&folder) else { continue };
        let forbidden = match place {
            CORE => NOT_IN_CORE,
            Place::Testkit => DRIVERS,
            Place::Floor(_) if below(place, ADAPTERS) => DRIVERS,
            _ => continue,
        };
        let reached = closure(&metadata, &name);
        findings.extend(
            forbidden
                .iter()
                .filter(|name| reached.contains(**name))
                .map(|found| format!("{name} ({place}) reaches {found}, which it may not know")),
        );
    }
    assert_none(&findings);
    // The walk really walks: an adapter's closure has its driver.
    assert!(closure(&metadata, "fides-connector-sqlite").contains("sqlx-core"));
}

#[test]
fn files_stay_readable() {
    let files: Vec<_> = ["shared", "services"].iter().flat_map(|folder| files(&root().join(folder))).collect();
    assert!(files.len() > 100, "only {} files found", files.len());
    assert!(files.iter().any(|(path, _)| path.ends_with("services/fides/src/main.rs")));
    assert_none(&files.iter().filter_map(|(path, lines)| too_long(path, *lines)).collect::<Vec<_>>());
}

fn edge(from: &str, to: &str, kind: DependencyKind) -> Edge {
    let end = |folder: &str| (name_for(folder), place_of(folder).expect("the folder has a place"));
    Edge { from: end(from), to: end(to), kind }
}

#[test]
fn a_planted_edge_is_found_and_named() {
    use DependencyKind::{Build, Development, Normal};
    let bad = [
        ("shared/core", "shared/format", Normal, "point down"),
        ("shared/format", "shared/engine", Normal, "point down"),
        ("shared/engine", "shared/runtime", Development, "point down"),
        ("shared/engine", "shared/connector-sqlite", Normal, "point down"),
        ("shared/engine", "shared/guard", Normal, "siblings"),
        ("shared/mapping", "shared/engine", Development, "siblings"),
        ("shared/connector-sqlite", "shared/connector-postgres", Normal, "siblings"),
        ("shared/connector-sqlite", "shared/backplane-embedded", Development, "siblings"),
        ("services/fides", "services/importer", Normal, "siblings"),
        ("services/fides", "shared/connector-sqlite", Normal, "only crate that knows the adapters"),
        ("shared/runtime", "services/fides", Normal, "point down"),
        ("shared/guard", "shared/testkit", Normal, "dev-dependency only"),
        ("services/fides", "shared/testkit", Build, "dev-dependency only"),
        ("shared/testkit", "shared/runtime", Normal, "below the adapters"),
        ("shared/testkit", "shared/backplane-embedded", Development, "below the adapters"),
        ("tests", "shared/core", Normal, "dev-dependencies only"),
        ("shared/core", "tests", Development, "nothing depends"),
    ];
    for (from, to, kind, rule) in bad {
        let said = broken(&edge(from, to, kind)).unwrap_or_else(|| panic!("{from} -> {to} was let through"));
        assert!(said.contains(rule) && said.contains(&format!("{} (", name_for(from))), "{said}");
        assert!(said.contains(&format!("-> {} (", name_for(to))), "{said}");
    }
}

#[test]
fn an_honest_edge_is_let_through() {
    use DependencyKind::{Development, Normal};
    let good = [
        ("shared/format", "shared/core", Normal),
        ("shared/mapping", "shared/format", Normal),
        ("shared/connector-postgres", "shared/format", Normal),
        ("shared/connector-postgres", "shared/testkit", Development),
        ("shared/runtime", "shared/backplane-embedded", Normal),
        ("services/fides", "shared/runtime", Normal),
        ("services/fides", "shared/core", Normal),
        ("shared/testkit", "shared/engine", Normal),
        ("tests", "shared/connector-sqlite", Development),
    ];
    for (from, to, kind) in good {
        assert_eq!(broken(&edge(from, to, kind)), None);
    }
}

#[test]
fn a_folder_without_a_floor_and_a_long_file_are_found() {
    for folder in ["shared/utils", "elsewhere/core", "core", "shared"] {
        assert_eq!(place_of(folder), None, "{folder}");
    }
    let main = Path::new("services/fides/src/main.rs");
    assert!(too_long(main, MAIN_LINES_MAX).is_none());
    assert!(too_long(main, MAIN_LINES_MAX + 1).is_some_and(|said| said.contains("main.rs: 61 lines, at most 60")));
    let file = Path::new("shared/core/src/lib.rs");
    assert!(too_long(file, FILE_LINES_MAX).is_none() && too_long(file, FILE_LINES_MAX + 1).is_some());
}
