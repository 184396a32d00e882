//! The quickstart, run for real: nothing here is prepared but the host's data, and every number that is told was counted
//! by the sync on one side and by SQL on the other.

mod edits;
mod host;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use fides_engine::Pipeline;
use fides_engine::import::Mode;
use fides_engine::inspect::{explain, parse_key, verify};
use fides_runtime::{Access, App};
use tempfile::TempDir;

use self::edits::Expected;
use super::sync::{self, Row};
use super::verify::verdict;
use crate::cli;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present::{self, Table, number, strong};
use crate::stop::Stop;

const CONFIG: &str = include_str!("../../../../../examples/quickstart/fides.yaml");
const PIPELINE: &str = "cities";
/// The city whose document is shown: Zürich.
const SAMPLE: &str = "2657896";
/// The fields of the document that are shown.
const SHOWN: [&str; 3] = ["name", "country", "label"];

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides demo                                   in a folder that is removed afterwards
  fides demo --keep ./quickstart               keep host, target, state and configuration, to go on by hand:
  fides --config quickstart/fides.yaml status")]
pub struct Args {
    /// Work in this new folder, and keep it.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Where the demo works.
enum Place {
    Kept(PathBuf),
    Passing(TempDir),
}

pub async fn run(args: &Args) -> Result<Exit, Failure> {
    let stop = Stop::listen()?;
    let place = Place::choose(args.keep.as_deref())?;
    let result = show(place.path(), &stop).await;
    let exit = if let Some(exit) = stop.exit() { exit } else { result? };
    place.leave(exit)?;
    Ok(exit)
}

async fn show(folder: &Path, stop: &Stop) -> Result<Exit, Failure> {
    present::out(format!(
        "Fides keeps a {} in step with a {} that it does not own and cannot change.\nThis demo does it in {}.\n\n",
        strong("target"),
        strong("host"),
        folder.display()
    ))?;
    let cities = lay_out(folder).await?;
    let config = cli::load(&folder.join("fides.yaml"))?;
    let app = App::open(&config, Access::Own, &[]).await?;
    let pipeline = app.pipelines.first().ok_or_else(|| Failure::new(Exit::Internal, "the demo has no pipeline"))?;

    present::out(format!(
        "{} Every city is read, hashed, mapped to a document (with its country, time zone and names in it),\n   queued and \
         written.\n",
        strong("2. First import.")
    ))?;
    let first = step(&app, stop).await?;
    let before = document(pipeline).await?;
    present::out(told_document("   Zürich, as the target now has it:", &before, &before))?;

    present::out(format!(
        "\n{} It has no column that says when a row changed, and Fides is not told:\n",
        strong("3. Somebody edits the host.")
    ))?;
    let expected = edits::make(&folder.join(host::FILE), folder).await?;
    for edit in edits::EDITS {
        present::out(format!("   - {}\n", edit.what))?;
    }
    present::out(format!(
        "   Compared by SQL with a copy made before, {} differ, {} new and {} are gone.\n\n",
        present::count(expected.changed, "city record"),
        if expected.new == 1 { "1 is".to_owned() } else { format!("{} are", number(expected.new)) },
        number(expected.gone)
    ))?;

    present::out(format!(
        "{} Every city is read and hashed again; only those whose hash differs travel.\n",
        strong("4. Second import.")
    ))?;
    let second = step(&app, stop).await?;
    let after = document(pipeline).await?;
    present::out(told_document("   Zürich before:", &before, &after))?;
    present::out(told_document("   Zürich after: ", &after, &before))?;

    present::out(format!("\n{} Nothing has changed, so nothing travels.\n", strong("5. Third import.")))?;
    let third = step(&app, stop).await?;

    present::out(format!("\n{} Host and target are read again and compared.\n\n", strong("6. Verify.")))?;
    let report = verify(pipeline, &Arc::default()).await?;
    let steps = [("first import", &first), ("second: the delta", &second), ("third: nothing", &third)];
    present::out(format!("{}\n\n{}\n", table(&steps), verdict(&report)))?;
    let wrong = mistakes(cities, &expected, &first, &second, &third);
    if wrong.is_empty() {
        present::out(format!(
            "{} the delta was to be {} by SQL's count ({} of them deletions), and exactly that was published.\n",
            present::good("✓"),
            present::count(expected.total(), "record"),
            number(expected.gone)
        ))?;
    }
    for mistake in &wrong {
        present::out(format!("{} {mistake}\n", present::bad("✗")))?;
    }
    Ok(if wrong.is_empty() && report.is_equal() { Exit::Ok } else { Exit::Different })
}

/// Lays out the host and the configuration. Returns the number of cities.
async fn lay_out(folder: &Path) -> Result<u64, Failure> {
    let started = Instant::now();
    let loaded = host::lay_out(&folder.join(host::FILE)).await?;
    std::fs::write(folder.join("fides.yaml"), CONFIG)
        .map_err(|error| Failure::new(Exit::Unavailable, format!("fides.yaml cannot be written: {error}")))?;
    let rows = |table: &str| loaded.iter().find(|(name, _)| *name == table).map_or(0, |(_, rows)| *rows);
    present::out(format!(
        "{} A gazetteer in SQLite, which belongs to somebody else: {} countries, {} time zones,\n   {} cities and {} \
         names in 26 scripts. Laid out in {} s.\n\n",
        strong("1. The host."),
        number(rows("country")),
        number(rows("timezone")),
        number(rows("city")),
        number(rows("city_name")),
        present::seconds(started.elapsed().as_secs_f64())
    ))?;
    Ok(rows("city"))
}

/// One real sync of the one pipeline.
async fn step(app: &App, stop: &Stop) -> Result<Row, Failure> {
    let outcome = sync::once(app, Mode::Delta, stop).await.pop();
    let outcome = outcome.ok_or_else(|| Failure::new(Exit::Internal, "the demo has no pipeline"))?;
    let row = Row::of(&outcome);
    outcome.report?;
    present::out(format!(
        "   {} read, {} published, {} s.\n",
        number(row.read),
        number(row.published),
        present::seconds(row.seconds)
    ))?;
    Ok(row)
}

/// The sample document, as the target has it.
async fn document(pipeline: &Pipeline) -> Result<serde_json::Value, Failure> {
    let story = explain(pipeline, &parse_key(&pipeline.selection, SAMPLE)?).await?;
    let document = story.target.as_deref().and_then(|json| serde_json::from_str(json).ok());
    document.ok_or_else(|| Failure::data(format!("the target of {PIPELINE} has no document {SAMPLE}")))
}

/// Some fields of a document; what differs from `other` stands out.
fn told_document(label: &str, document: &serde_json::Value, other: &serde_json::Value) -> String {
    let field = |name: &str| {
        let value = document.get(name).unwrap_or(&serde_json::Value::Null);
        let text = format!("\"{name}\": {value}");
        if other.get(name) == Some(value) { text } else { strong(text).to_string() }
    };
    format!("{label} {{ {} }}\n", SHOWN.map(field).join(", "))
}

fn table(steps: &[(&str, &Row)]) -> Table {
    let header: Vec<&str> = std::iter::once("step").chain(Row::HEADER).collect();
    let mut table = Table::new(&header, 1);
    for (name, row) in steps {
        table.row(std::iter::once((*name).to_owned()).chain(row.cells()));
    }
    table
}

/// Where the counts of the sync are not those of SQL.
fn mistakes(cities: u64, expected: &Expected, first: &Row, second: &Row, third: &Row) -> Vec<String> {
    let left = cities + expected.new - expected.gone;
    let counts = [
        ("first import: read", first.read, cities),
        ("first import: published", first.published, cities),
        ("second import: read", second.read, left),
        ("second import: published", second.published, expected.total()),
        ("second import: deleted", second.deleted, expected.gone),
        ("third import: published", third.published, 0),
        ("dead letters", third.dead, 0),
    ];
    let wrong = counts.into_iter().filter(|(_, counted, expected)| counted != expected);
    wrong.map(|(what, counted, expected)| format!("{what} {counted}, expected {expected}")).collect()
}

impl Place {
    /// A folder of the user's, which must be new or empty, or a passing one.
    fn choose(keep: Option<&Path>) -> Result<Self, Failure> {
        let Some(folder) = keep else {
            let made = tempfile::Builder::new().prefix("fides-demo-").tempdir();
            return made.map(Place::Passing).map_err(|error| unusable(&std::env::temp_dir(), &error));
        };
        std::fs::create_dir_all(folder).map_err(|error| unusable(folder, &error))?;
        let mut entries = std::fs::read_dir(folder).map_err(|error| unusable(folder, &error))?;
        if entries.next().is_some() {
            let what = format!("{} is not empty", folder.display());
            return Err(Failure::new(Exit::Usage, what).advise("name a folder that does not exist yet"));
        }
        Ok(Place::Kept(folder.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Place::Kept(folder) => folder,
            Place::Passing(folder) => folder.path(),
        }
    }

    /// Says where everything is, or removes it.
    fn leave(self, exit: Exit) -> Result<(), Failure> {
        match self {
            Place::Kept(folder) => {
                let file = folder.join("fides.yaml");
                let next = format!("fides --config {} status", file.display());
                present::out(format!("\nKept in {}; go on with `{next}`.\n", folder.display()))
            }
            Place::Passing(folder) if exit == Exit::Different => {
                present::out(format!("\nKept for inspection: {}\n", folder.keep().display()))
            }
            Place::Passing(folder) => {
                let path = folder.path().to_owned();
                folder.close().map_err(|error| unusable(&path, &error))?;
                present::out("\nThe demo's folder is removed again; `fides demo --keep DIR` keeps it.\n")
            }
        }
    }
}

fn unusable(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("folder {} cannot be used: {error}", folder.display()))
}
