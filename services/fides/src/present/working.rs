//! Who works, as processes tell of themselves.

use std::collections::{BTreeMap, BTreeSet};

use fides_engine::inspect::{Breaker, Heartbeat};

use super::{Table, Text, bad, count, number, passed};

/// Adds a row for every process, and what of it wants attention. Nothing where nobody works.
pub fn working(text: &mut Text, processes: &[Heartbeat], now_ms: u64) {
    if processes.is_empty() {
        return;
    }
    let mut table = Table::new(&["process", "heard", "does", "lanes", "written"], 3);
    for process in processes {
        let works = || process.pipelines.values();
        let does = process.pipelines.iter().filter(|(_, work)| !work.phase.is_empty());
        let does: Vec<String> = does.map(|(pipeline, work)| format!("{pipeline}: {}", work.phase)).collect();
        table.row([
            process.service.clone(),
            format!("{} ago", passed(now_ms.saturating_sub(process.at_ms))),
            if does.is_empty() { "–".into() } else { does.join("; ") },
            number(works().map(|work| work.lanes).sum()),
            number(works().map(|work| work.written).sum()),
        ]);
    }
    text.line("");
    text.line(table);
    for remark in lanes(processes).into_iter().chain(breakers(processes)) {
        text.line(format_args!("{} {remark}", bad("!")));
    }
}

/// Lanes that cannot work, and why, by pipeline.
fn lanes(processes: &[Heartbeat]) -> Vec<String> {
    let mut waiting: BTreeMap<&str, BTreeMap<u16, &str>> = BTreeMap::new();
    for (pipeline, work) in processes.iter().flat_map(|process| &process.pipelines) {
        let reasons = work.waiting.iter().map(|(lane, reason)| (*lane, reason.as_str()));
        waiting.entry(pipeline).or_default().extend(reasons);
    }
    waiting.retain(|_, lanes| !lanes.is_empty());
    let told = |(pipeline, lanes): (&str, BTreeMap<u16, &str>)| {
        let reasons: BTreeSet<&str> = lanes.values().copied().collect();
        let reasons: Vec<&str> = reasons.into_iter().collect();
        format!("{pipeline}: {} cannot work: {}", count(lanes.len() as u64, "lane"), reasons.join("; "))
    };
    waiting.into_iter().map(told).collect()
}

/// Breakers that let nothing through, or one call to see, and who has met them.
fn breakers(processes: &[Heartbeat]) -> Vec<String> {
    let mut tripped: BTreeMap<&str, (Breaker, BTreeSet<&str>)> = BTreeMap::new();
    for process in processes {
        for (part, state) in process.breakers.iter().filter(|(_, state)| **state != Breaker::Closed) {
            let (worst, by) = tripped.entry(part).or_insert((*state, BTreeSet::new()));
            *worst = (*worst).max(*state);
            by.insert(&process.service);
        }
    }
    let told = |(part, (state, by)): (&str, (Breaker, BTreeSet<&str>))| {
        let state = if state == Breaker::Open { "open" } else { "half-open" };
        format!("{part}: the circuit breaker is {state} ({})", by.into_iter().collect::<Vec<_>>().join(", "))
    };
    tripped.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use fides_engine::inspect::Work;

    use super::*;

    fn process(service: &str, breaker: Breaker, waiting: &[(u16, &str)]) -> Heartbeat {
        let waiting = waiting.iter().map(|(lane, reason)| (*lane, (*reason).to_owned())).collect();
        let work = Work { phase: "reading".into(), lanes: 2, written: 1_500, waiting, ..Work::default() };
        Heartbeat {
            service: service.into(),
            instance: String::new(),
            at_ms: 10_000,
            breakers: [("target copy".to_owned(), breaker)].into(),
            pipelines: [("items".to_owned(), work.clone()), ("orders".to_owned(), Work { waiting: [].into(), ..work })]
                .into(),
        }
    }

    #[test]
    fn every_process_has_a_row_and_the_worst_of_all_is_remarked_once() {
        let mut text = Text::default();
        working(&mut text, &[], 0);
        assert_eq!(text.as_ref(), "");
        let away = "lane items.lane.1 waits: refused";
        let processes = [
            process("importer", Breaker::Closed, &[]),
            process("publishing-consumer", Breaker::HalfOpen, &[(1, away), (2, away)]),
            process("publishing-consumer", Breaker::Open, &[(1, away)]),
        ];
        working(&mut text, &processes, 13_500);
        let lines: Vec<&str> = text.as_ref().lines().collect();
        let [_, header, _, importer, _, _, lanes, breaker] = lines[..] else { panic!("{lines:?}") };
        assert_eq!(header.split_whitespace().collect::<Vec<_>>(), ["process", "heard", "does", "lanes", "written"]);
        assert!(importer.starts_with("importer") && importer.ends_with("3,000"), "{importer}");
        assert!(importer.contains("3 s ago") && importer.contains("items: reading; orders: reading"), "{importer}");
        assert!(lanes.ends_with("items: 2 lanes cannot work: lane items.lane.1 waits: refused"), "{lanes}");
        assert!(breaker.ends_with("target copy: the circuit breaker is open (publishing-consumer)"), "{breaker}");
    }
}
