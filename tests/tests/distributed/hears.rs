//! Events that a host's service sends: there is no schedule and no importer here after the first copy, so that nothing else
//! brings a change to the target.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::asks::terminate;
use crate::follows::{nothing_is_planned, run};
use crate::services::Process;
use crate::stand::{Stand, rows};
use crate::until::{MINUTE, until};

const SECRET: &str = "It's a Secret to Everybody";
const LIMITS: &str = "limits: { lanes: 4, lease_ms: 3000, delete_count_min: 1000 }";
/// A structured event; `{}` is the record.
const EVENT: &str = r#"{"specversion":"1.0","id":"e","source":"/shop","type":"shop.item.changed","subject":"{}"}"#;

fn event(id: i64) -> String {
    EVENT.replace("{}", &id.to_string())
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Runs the host's service; what it printed, by line.
async fn tell(arguments: &[&str]) -> Vec<String> {
    let set = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see main.rs"));
    let mut command = Command::new(set("FIDES_TEST_PIKA"));
    command.env("PYTHONPATH", set("FIDES_TEST_CLOUDEVENTS"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/distributed/tell.py")).args(arguments);
    let output = output(command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(ToOwned::to_owned).collect()
}

/// Copies the host once. Then only events bring anything.
async fn copied(stand: &Stand) -> (PgConnection, Process, Process) {
    let host = stand.fill(rows()).await;
    let importer = stand.start("importer", 0);
    let others = (stand.start("publishing-consumer", 0), stand.start("event-handler", 0));
    stand.becomes_equal().await;
    until("the first import is over", MINUTE, async || importer.log().contains("\"import finished\"")).await;
    terminate([importer]).await;
    (host, others.0, others.1)
}

/// Where the present life of an event-handler receives events.
async fn intake(handler: &Process) -> String {
    let mut address = None;
    until("events are received", MINUTE, async || {
        let log = handler.log_of_this_life();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut received = lines.filter(|line| line["message"] == "receiving events");
        address = received.find_map(|line| Some(line["fides.address"].as_str()?.to_owned()));
        address.is_some()
    })
    .await;
    address.unwrap()
}

/// What docs/events.md says, with curl; the status, and what was answered.
async fn curl(url: &str, content_type: &str, body: &str, secret: &str) -> (u16, String) {
    const SCRIPT: &str = r#"
        signature=$(printf %s "$BODY" | openssl dgst -sha256 -hmac "$SECRET" | sed 's/^.* //')
        printf %s "$BODY" | curl -sS -m 60 -w '\n%{http_code}' -H "Content-Type: $TYPE" \
            -H "X-Signature-256: sha256=$signature" --data-binary @- "$URL""#;
    let mut command = Command::new("sh");
    command.args(["-euc", SCRIPT]).env("BODY", body).env("SECRET", secret).env("TYPE", content_type).env("URL", url);
    let output = output(command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    let (body, status) = told.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn posted_events_arrive_and_malformed_ones_harm_nothing() {
    const STRUCTURED: &str = "application/cloudevents+json";
    let options = format!(
        "events: {{ webhook: {{ secret: \"{SECRET}\", types: [shop.item.*] }} }}\n    {LIMITS}\n\
         intake: {{ listen: \"127.0.0.1:0\", body_bytes_max: 10000 }}"
    );
    let stand = Stand::unscheduled("webhook", &options).await;
    let (mut host, consumer, handler) = copied(&stand).await;
    let url = format!("http://{}/events/{}", intake(&handler).await, stand.pipeline);

    run(&mut host, "UPDATE items SET name = 'anders' WHERE id <= 8; DELETE FROM items WHERE id IN (9, 10)").await;
    run(&mut host, "INSERT INTO items SELECT 9000001, 'neu', 1, 3, true, '{}', now(), 0.5").await;
    assert_eq!(curl(&url, STRUCTURED, &event(1), SECRET).await.0, 200);
    let batch = format!("[{},{},{}]", event(2), event(3), event(9));
    let (status, told) = curl(&url, "application/cloudevents-batch+json", &batch, SECRET).await;
    assert!(status == 200 && told.contains("\"accepted\":3"), "{told}");
    assert_eq!(tell(&["http", &url, SECRET, "structured", "4", "5", "10"]).await, ["200"; 3]);
    assert_eq!(tell(&["http", &url, SECRET, "binary", "6", "7", "8", "9000001"]).await, ["200"; 4]);

    let other = event(11).replace("shop.item", "shop.invoice");
    let (status, told) = curl(&url, STRUCTURED, &other, SECRET).await;
    assert!(status == 200 && told.contains("\"ignored\":1"), "{told}");
    for (body, secret, expected, reason) in [
        (event(1).replace("specversion", "version"), SECRET, 400, "no attribute `specversion`"),
        (event(1).replace("\"1\"", "\"one\""), SECRET, 400, "is not a i64"),
        ("{".to_owned(), SECRET, 400, "no JSON"),
        (event(1), "another secret", 401, "signature"),
        (event(1) + &" ".repeat(10_000), SECRET, 413, "larger than 10000 bytes"),
    ] {
        let (status, told) = curl(&url, STRUCTURED, &body, secret).await;
        assert!(status == expected && told.contains(reason), "{expected} {reason}: {status} {told}");
    }
    stand.becomes_equal().await;
    nothing_is_planned(&stand).await;
    terminate([consumer, handler]).await;
    stand.close().await;
}

/// Posts one event; the status, or nothing where there was no answer.
async fn post(address: &str, path: &str, body: &str) -> Option<u16> {
    let posting = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {SECRET}\r\n\
             Content-Type: application/cloudevents+json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.get(9..12)?.parse().ok()
    };
    tokio::time::timeout(Duration::from_secs(20), posting).await.ok().flatten()
}

/// kill -9 while events come in: what was answered is never sent again, and arrives.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_kills_of_the_event_handler() {
    let options = format!(
        "events: {{ webhook: {{ bearer: \"{SECRET}\" }} }}\n    {LIMITS}\nintake: {{ listen: \"127.0.0.1:0\" }}"
    );
    let stand = Stand::unscheduled("answered", &options).await;
    let (mut host, consumer, mut handler) = copied(&stand).await;
    let path = format!("/events/{}", stand.pipeline);
    let (mut kills, mut unanswered) = (0, 0);
    for round in 0..6i64 {
        let address = intake(&handler).await;
        let ids = round * 100 + 1..=round * 100 + 100;
        let (first, last) = (ids.start(), ids.end());
        run(&mut host, &format!("UPDATE items SET stock = -{round} - 1 WHERE id BETWEEN {first} AND {last}")).await;
        run(&mut host, &format!("DELETE FROM items WHERE id BETWEEN {first} AND {last} AND id % 10 = 0")).await;
        let posts: Vec<_> = ids
            .map(|id| {
                let (address, path) = (address.clone(), path.clone());
                tokio::spawn(async move { (id, post(&address, &path, &event(id)).await) })
            })
            .collect();
        // At another moment in every round, also before the first answer and after the last.
        tokio::time::sleep(Duration::from_millis(7 * u64::try_from(round).unwrap())).await;
        kills += usize::from(handler.kill());
        let mut missed = Vec::new();
        for post in posts {
            let (id, status) = post.await.unwrap();
            if status != Some(200) {
                missed.push(id);
            }
        }
        unanswered += missed.len();
        handler.restart();
        let address = intake(&handler).await;
        for id in missed {
            until("it is taken", MINUTE, async || post(&address, &path, &event(id)).await == Some(200)).await;
        }
    }
    assert!(kills == 6 && unanswered > 0, "{kills} kills, {unanswered} without an answer");
    stand.becomes_equal().await;
    nothing_is_planned(&stand).await;
    terminate([consumer, handler]).await;
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn published_events_arrive_through_kills_and_malformed_ones_are_put_aside() {
    let broker = Stand::broker_url();
    let unique = uuid::Uuid::now_v7().simple().to_string();
    let (exchange, queue) = (format!("shop.{unique}"), format!("fides.events.{unique}"));
    let options = format!(
        "events: {{ amqp: {{ url: \"{broker}\", exchange: {exchange}, queue: {queue}, routing_keys: [shop.#], \
         key: data.item.id }} }}\n    {LIMITS}"
    );
    let stand = Stand::unscheduled("amqp", &options).await;
    let (mut host, consumer, mut handler) = copied(&stand).await;
    let checked = stand.fides(&["check", "--connect"]);
    assert!(checked.0 != Some(0) && format!("{checked:?}").contains("there is no such exchange"), "{checked:?}");
    until("it is said", MINUTE, async || handler.log().contains("events are not received at present")).await;
    let reception = format!("pipelines.{}.events.amqp", stand.pipeline);
    until("it is not ready", MINUTE, async || {
        handler.waits_for().await.get(&reception).is_some_and(|why| why.contains("exchange"))
    })
    .await;
    tell(&["declare", &broker, &exchange]).await;
    until("events are received", MINUTE, async || handler.log().contains("\"receiving events\"")).await;
    until("it is ready", MINUTE, async || handler.waits_for().await.is_empty()).await;
    let checked = stand.fides(&["check", "--connect"]);
    assert_eq!(checked.0, Some(0), "{checked:?}");

    let dead = format!("{queue}.dead");
    for round in 0..4i64 {
        let (first, last) = (round * 100 + 1, round * 100 + 100);
        run(&mut host, &format!("UPDATE items SET stock = -{round} - 1 WHERE id BETWEEN {first} AND {last}")).await;
        run(&mut host, &format!("DELETE FROM items WHERE id BETWEEN {first} AND {last} AND id % 10 = 0")).await;
        let ids: Vec<String> = (first..=last).map(|id| id.to_string()).collect();
        let mode = if round % 2 == 0 { "structured" } else { "binary" };
        let arguments: Vec<&str> =
            ["amqp", &broker, &exchange, mode].into_iter().chain(ids.iter().map(String::as_str)).collect();
        let publishing = tell(&arguments);
        let killing = async {
            // While they come in, and once while they wait in the queue.
            tokio::time::sleep(Duration::from_millis(150 + 100 * u64::try_from(round).unwrap())).await;
            assert!(handler.kill(), "it was alive");
            if round % 2 == 0 {
                handler.restart();
            }
        };
        tokio::join!(publishing, killing);
        if !handler.is_alive() {
            handler.restart();
        }
    }
    tell(&["raw", &broker, &exchange, "application/cloudevents+json", "{", "[]", &event(1)]).await;
    tell(&["raw", &broker, &exchange, "", "nothing"]).await;
    // Behind the malformed ones.
    run(&mut host, "UPDATE items SET name = 'zuletzt' WHERE id = 7").await;
    tell(&["amqp", &broker, &exchange, "binary", "7"]).await;
    stand.becomes_equal().await;
    nothing_is_planned(&stand).await;

    let mut reasons = Vec::new();
    let deadline = Instant::now() + MINUTE;
    while reasons.len() < 4 {
        assert!(Instant::now() < deadline, "{reasons:?}");
        reasons = tell(&["dead", &broker, &dead]).await;
    }
    for reason in ["no JSON", "found a list", "no data, expected the record's key in data.item.id", "`specversion`"] {
        assert!(reasons.iter().any(|told| told.contains(reason)), "{reason}: {reasons:?}");
    }
    terminate([consumer, handler]).await;
    tell(&["delete", &broker, &exchange, &queue, &dead]).await;
    stand.close().await;
}
