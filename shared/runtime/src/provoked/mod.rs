//! Everything that docs/metrics.md, the rules for alerts and the dashboards name is told by a process in which it happens: the
//! runtime's own loops, over fakes and on a paused clock. The other way round no rule, no panel and no page names what nobody tells.

mod alerts;
mod metrics;
mod scenario;
mod stand;
