use std::net::SocketAddr;
use std::sync::Arc;

use fides_http::Listener;

use crate::cli::Global;
use crate::dashboard::{Access, BOUNDS, Orders, PURPOSE, Site, Source, router};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::present;
use crate::stop::Stop;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fides dashboard                              http://127.0.0.1:8090, beside a running sync or without one
  fides dashboard --listen 127.0.0.1:9000
  FIDES__DASHBOARD__TOKEN=$(cat token) fides dashboard --listen 0.0.0.0:8090

Beyond loopback it wants a token (`dashboard.token` or `token_file` in the configuration), and a proxy that has a certificate.")]
pub struct Args {
    /// Where the page is served, instead of `dashboard.listen`; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Who asks, for the audit trail: the user of this process if not given.
    #[arg(long, value_name = "NAME", env = "FIDES_REQUESTER")]
    requester: Option<String>,
}

pub async fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let config = global.load()?;
    let listen = args.listen.unwrap_or(config.dashboard.listen);
    let access = Access::at(listen, config.dashboard.token.clone())?;
    let stop = Stop::listen()?;
    global.log_if_asked(&config);
    let requester = args.requester.clone().unwrap_or_else(|| format!("{}, status page", super::ask::requester()));
    let orders = Orders::new(config.clone(), requester, stop.token());
    let listener = Listener::bind(listen, PURPOSE)?;
    present::note(&format!("ready: the status page is at http://{}; Ctrl-C stops", listener.address));
    let site = Arc::new(Site { access, source: Source::new(config), orders });
    listener.serve(router(site.clone()), BOUNDS, &stop.token()).await?;
    site.orders.end().await;
    Ok(stop.exit().unwrap_or(Exit::Ok))
}
