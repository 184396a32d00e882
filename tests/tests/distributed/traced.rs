//! One record's way is one trace, as a collector of OpenTelemetry sees it.

use crate::collector::{Collector, Span};
use crate::services::Process;
use crate::stand::Stand;
use crate::until::{MINUTE, until};

/// A stand whose services tell a collector.
async fn stand(name: &str, limits: &str) -> (Stand, Collector) {
    let stand = Stand::unscheduled(name, limits).await;
    let collector = Collector::start(stand.folder.path()).await;
    let text = std::fs::read_to_string(&stand.config).unwrap();
    let telemetry = format!("telemetry: {{ otlp: {{ endpoint: \"{}\" }} }}\n", collector.endpoint);
    std::fs::write(&stand.config, text + &telemetry).unwrap();
    (stand, collector)
}

/// Ends services, which send what they have not sent yet.
async fn end(services: &mut [Process]) {
    for service in services {
        assert!(service.terminate().await.success(), "{}", service.name);
    }
}

fn named<'a>(spans: &'a [Span], service: &str, name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.service == service && span.name == name).collect()
}

/// One record: it is read, sent, processed and written in one trace, of two services.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_one_trace_from_host_to_target() {
    let (stand, collector) = stand("traced", "limits: { lanes: 2 }").await;
    let _host = stand.fill(1).await;
    let mut services = [stand.start("importer", 0), stand.start("publishing-consumer", 0)];
    stand.has_copied(1).await;
    until("the import has ended", MINUTE, async || services[0].log().contains("\"import finished\"")).await;
    end(&mut services).await;

    let sent = format!("send {}", stand.pipeline);
    until("its last words have arrived", MINUTE, async || {
        let spans = collector.spans();
        named(&spans, "importer", &sent)
            .iter()
            .any(|span| span.attributes.get("fides.sent").is_some_and(|it| it == "1"))
            && spans.iter().any(|span| span.name == "apply target target")
            && collector.printed().contains("fides.records.written")
            && collector.printed().contains("Body: Str(import finished)")
    })
    .await;
    let spans = collector.spans();
    let page = named(&spans, "importer", &sent)
        .into_iter()
        .find(|span| span.attributes.get("fides.sent").is_some_and(|sent| sent == "1"))
        .unwrap();
    assert_eq!((page.kind.as_str(), page.parent.as_str()), ("SPAN_KIND_PRODUCER", ""), "{page:?}");
    for (name, value) in [
        ("fides.pipeline", stand.pipeline.as_str()),
        ("fides.origin", "import"),
        ("fides.read", "1"),
        ("messaging.system", "rabbitmq"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", &stand.pipeline),
    ] {
        assert_eq!(page.attributes.get(name).map(String::as_str), Some(value), "{name}: {page:?}");
    }
    let trace: Vec<&Span> = spans.iter().filter(|span| span.trace == page.trace).collect();
    let rounds: Vec<&&Span> = trace.iter().filter(|span| span.kind == "SPAN_KIND_CONSUMER").collect();
    let [round] = rounds[..] else { panic!("{trace:#?}") };
    assert_eq!((round.service.as_str(), &round.parent), ("publishing-consumer", &page.id), "{round:?}");
    assert_eq!(round.links, [(page.trace.clone(), page.id.clone())]);
    assert!(round.name.starts_with(&format!("process {}.lane.", stand.pipeline)), "{round:?}");
    let below = |above: &Span, name: &str| {
        let called = trace.iter().filter(|span| span.parent == above.id && span.name == name);
        assert!(called.clone().all(|span| span.kind == "SPAN_KIND_CLIENT" && span.service == above.service));
        called.count()
    };
    assert_eq!(below(page, "scan host host"), 1, "{trace:#?}");
    assert_eq!(below(page, "publish backplane amqp"), 1, "{trace:#?}");
    assert_eq!(below(round, "apply target target"), 1, "{trace:#?}");
    assert_eq!(below(round, "hashes.advance backplane redis"), 1, "{trace:#?}");
    // Every span but the first has its place in the trace.
    for span in trace.iter().filter(|span| span.id != page.id) {
        assert!(trace.iter().any(|above| above.id == span.parent), "{span:?}");
    }
    stand.close().await;
}

/// A round that gathered what several spans sent is linked to all of them, and of none of their traces.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_is_linked_to_all_that_it_gathered() {
    let limits = "limits: { lanes: 1, page_records_max: 1, host_partitions: 1, gather_ms_max: 1000 }";
    let (stand, collector) = stand("linked", limits).await;
    let _host = stand.fill(3).await;
    // The consumer waits for a second behind the first page, and the others come meanwhile.
    let (importer, consumer) = (stand.start("importer", 0), stand.start("publishing-consumer", 0));
    stand.has_copied(3).await;
    end(&mut [importer, consumer]).await;

    let rounds = async || -> Vec<Span> {
        collector.spans().into_iter().filter(|span| span.kind == "SPAN_KIND_CONSUMER").collect()
    };
    until("all rounds have arrived", MINUTE, async || {
        rounds().await.iter().map(|round| round.links.len()).sum::<usize>() == 3
    })
    .await;
    let rounds = rounds().await;
    let spans = collector.spans();
    let round = rounds.iter().max_by_key(|round| round.links.len()).unwrap();
    assert!(round.links.len() > 1, "what waited in the lane is gathered: {rounds:?}");
    assert_eq!(round.parent, "", "{round:?}");
    for (trace, id) in rounds.iter().flat_map(|round| &round.links) {
        let sender = spans.iter().find(|span| span.id == *id).unwrap_or_else(|| panic!("{id}: {spans:#?}"));
        assert_eq!((&sender.trace, sender.kind.as_str()), (trace, "SPAN_KIND_PRODUCER"));
        assert_ne!(sender.trace, round.trace);
    }
    stand.close().await;
}
