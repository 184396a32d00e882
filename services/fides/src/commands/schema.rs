use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides schema > fides.schema.json
  # then, as the first line of fides.yaml, for editors with a YAML language server:
  # yaml-language-server: $schema=./fides.schema.json")]
pub struct Args {}

pub fn run(global: &Global, _: &Args) -> Result<Exit, Failure> {
    global.log_alone();
    present::json(&fides_runtime::config::json_schema())?;
    Ok(Exit::Ok)
}
