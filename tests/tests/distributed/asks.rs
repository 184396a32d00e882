//! Commands through the real queue, as a script sends them that knows nothing of Fides but its documentation.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::task::JoinHandle;

use crate::proxy::Weather;
use crate::services::Process;
use crate::stand::{Stand, rows};

const PATIENCE: Duration = Duration::from_mins(2);
const DEADLINE_S: &str = "120";

/// A Python that has pika.
fn python() -> String {
    std::env::var("FIDES_TEST_PIKA").expect("FIDES_TEST_PIKA is not set: run this through tests/parts/pika")
}

/// Runs the Python of the documentation, for this stand; what it prints.
async fn as_documented(stand: &Stand) -> String {
    let page = include_str!("../../../docs/admin.md");
    let script = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let script = script
        .replace("amqps://ops:secret@mq:5671/fides", &Stand::broker_url())
        .replace("fides.admin", &stand.admin_queue())
        .replace("cities", &stand.pipeline);
    let run = move || Command::new(python()).args(["-c", &script]).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Sends bytes with Python's pika and `reply_to`, and reads the answer.
async fn send(stand: &Stand, body: Vec<u8>) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/distributed/ask.py");
    let (url, queue) = (Stand::broker_url(), stand.admin_queue());
    let asked = tokio::task::spawn_blocking(move || {
        let mut child = Command::new(python())
            .args([script, &url, &queue, DEADLINE_S])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&body).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = asked.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub async fn ask(stand: &Stand, command: &Value) -> Value {
    send(stand, command.to_string().into_bytes()).await
}

/// Asks the same command until it is more than accepted.
pub async fn ask_until_ended(stand: &Stand, command: &Value) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(stand, command).await;
        if answer["status"] != "accepted" {
            return answer;
        }
        assert!(Instant::now() < deadline, "never carried out: {answer}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn json_of(stand: &Stand, arguments: &[&str]) -> Value {
    let (code, stdout, stderr) = stand.fides(arguments);
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {code:?} {stdout}{stderr}"))
}

fn status(stand: &Stand) -> Value {
    json_of(stand, &["status", "--json"])[0].take()
}

/// Somebody who reads the target all the time, and must never miss a record.
struct Reader {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    reading: JoinHandle<BTreeSet<i64>>,
}

impl Reader {
    async fn start(stand: &Stand) -> Self {
        let mut target = stand.connect().await;
        let (stop, looks) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, looked) = (stop.clone(), looks.clone());
        let reading = tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                let count: i64 = sqlx::query_scalar("SELECT count(*) FROM copy").fetch_one(&mut target).await.unwrap();
                seen.insert(count);
                looked.fetch_add(1, Ordering::Relaxed);
            }
            seen
        });
        Self { stop, looks, reading }
    }

    /// How many documents there were, at any time.
    async fn stop(self) -> BTreeSet<i64> {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.looks.load(Ordering::Relaxed) > 10, "it has looked");
        self.reading.await.unwrap()
    }
}

pub async fn terminate(services: impl IntoIterator<Item = Process>) {
    for mut service in services {
        let status = service.terminate().await;
        assert!(status.success(), "{}: {status}", service.name);
    }
}

/// The services, once the first import is written.
pub async fn copied(stand: &Stand) -> Vec<Process> {
    stand.fill(rows()).await;
    let names = ["importer", "publishing-consumer", "cleanup-scheduler"];
    let services = names.map(|name| stand.start(name, 0)).into();
    stand.becomes_equal().await;
    services
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_done_once_and_what_is_none_is_refused() {
    let stand = Stand::unscheduled("commands", "limits: { lanes: 4, lease_ms: 3000 }").await;
    let services = copied(&stand).await;
    let before = status(&stand)["run"]["id"].clone();

    let id = format!("full-{}", stand.pipeline);
    let reimport = json!({
        "id": id, "requester": "nightly script", "command": "reimport", "pipelines": [stand.pipeline], "mode": "full",
    });
    let (first, again) = tokio::join!(ask(&stand, &reimport), ask(&stand, &reimport));
    for answer in [first, again] {
        assert_eq!((&answer["id"], answer["status"] != "refused"), (&json!(id), true), "{answer}");
    }
    let done = ask_until_ended(&stand, &reimport).await;
    assert_eq!(done["status"], "done", "{done}");
    let detail = &done["detail"][&stand.pipeline];
    assert_eq!((&detail["read"], &detail["published"]), (&json!(rows()), &json!(rows())), "{done}");
    let run = status(&stand)["run"]["id"].clone();
    assert_ne!(run, before);
    assert_eq!(ask(&stand, &reimport).await, done, "the same id is the same command");
    assert_eq!(status(&stand)["run"]["id"], run, "and is done once");

    let other = json!({ "id": id, "requester": "somebody", "command": "pause", "pipelines": [stand.pipeline] });
    let too_large = [br#"{"id":"#.to_vec(), vec![b' '; 300 << 10]].concat();
    for (body, reason) in [
        (b"{\"id\": ".to_vec(), "JSON"),
        (b"\xff\x00".to_vec(), "JSON"),
        (Vec::new(), "JSON"),
        (br#"{"id": "x", "requester": "x", "command": "explode"}"#.to_vec(), "found \"explode\""),
        (
            br#"{"id": "x", "requester": "x", "command": "pause", "pipelines": ["nope"]}"#.to_vec(),
            "no pipeline \"nope\"",
        ),
        (too_large, "at most 262144 bytes"),
        (other.to_string().into_bytes(), "another command"),
    ] {
        let answer = send(&stand, body).await;
        assert_eq!(answer["status"], "refused", "{answer}");
        assert!(answer["reason"].as_str().unwrap().contains(reason), "{reason}: {answer}");
    }
    assert!(status(&stand)["paused"].is_null());
    let audited = services[0].log().lines().filter(|line| line.contains("fides::audit") && line.contains(&id)).count();
    assert!(audited >= 3, "every time it was asked, and when it was carried out: {audited}");
    let printed = as_documented(&stand).await;
    assert!(printed.contains("'status': 'accepted'"), "{printed}");
    terminate(services).await;
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_the_work_and_the_command_line_is_one_client_more() {
    let stand = Stand::new("pause", "limits: { lanes: 4, lease_ms: 3000 }").await;
    let services = copied(&stand).await;
    let (code, stdout, stderr) = stand.fides(&["pause", &stand.pipeline, "--requester", "ops", "--json"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert_eq!(status(&stand)["paused"]["requester"], "ops");
    let (_, stdout, _) = stand.fides(&["status"]);
    assert!(stdout.contains("paused") && stdout.contains(&format!("fides resume {}", stand.pipeline)), "{stdout}");
    // Whatever began before has noticed within a lease.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let run = status(&stand)["run"]["id"].clone();
    let mut host = stand.connect().await;
    sqlx::query("UPDATE items SET name = 'changed' WHERE id = 1").execute(&mut host).await.unwrap();
    // Two instants of the schedule.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(status(&stand)["run"]["id"], run, "nothing is imported");
    let resume = json!({ "id": "r", "requester": "ops", "command": "resume", "pipelines": [stand.pipeline] });
    assert_eq!(ask(&stand, &resume).await["status"], "done");
    stand.becomes_equal().await;

    let (code, _, stderr) = stand.fides(&["pause", "nope"]);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("there is no pipeline \"nope\"") && stderr.contains(&stand.pipeline), "{stderr}");
    let listed = json_of(&stand, &["commands", "list", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
    terminate(services).await;
    stand.close().await;
}

/// What meets a fault returns to the queue, and is answered when the fault is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_for_a_state_store_that_is_away() {
    let stand = Stand::unscheduled("store", "limits: { lanes: 4, lease_ms: 3000 }").await;
    let services = copied(&stand).await;
    stand.before_redis.set(Weather::Refuse);
    let pause = json!({ "id": "p", "requester": "ops", "command": "pause", "pipelines": [stand.pipeline] });
    let asked = ask(&stand, &pause);
    let mended = async {
        until("the desk met the fault", async || services[0].log().contains("commands are not answered at present"))
            .await;
        stand.before_redis.set(Weather::Fair);
    };
    let (answer, ()) = tokio::join!(asked, mended);
    assert_eq!(answer["status"], "done", "{answer}");
    assert_eq!(status(&stand)["paused"]["requester"], "ops");
    terminate(services).await;
    stand.close().await;
}

/// kill -9 in the middle of a full reimport: it is resumed, and whoever reads the target never misses a record.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_reimport_survives_its_importer() {
    let options = "limits: { lanes: 4, lease_ms: 3000, page_records_max: 250 }";
    let stand = Stand::unscheduled("resumes", options).await;
    let mut services = copied(&stand).await;
    let reader = Reader::start(&stand).await;
    let before = status(&stand)["run"]["id"].clone();
    stand.before_host.set(Weather::Delay(Duration::from_millis(400)));
    let first = i32::try_from(rows()).unwrap();
    let id = format!("kill-{}", stand.pipeline);
    let reimport = json!({
        "id": id, "requester": "test", "command": "reimport", "pipelines": [stand.pipeline], "mode": "full",
    });
    assert_eq!(ask(&stand, &reimport).await["status"], "accepted");
    until("the run is under way", async || {
        services[0].metric("fides_records_read_total", &[]).await > f64::from(first + 500)
    })
    .await;
    assert!(services[0].kill(), "it was alive");
    let killed = status(&stand)["run"].take();
    assert_ne!(killed["id"], before);
    assert!(killed["ended_ms"].is_null(), "in the middle: {killed}");
    stand.before_host.set(Weather::Fair);
    services[0].restart();
    let done = ask_until_ended(&stand, &reimport).await;
    assert_eq!(done["status"], "done", "{done}");
    let run = status(&stand)["run"].take();
    assert_eq!(run["id"], killed["id"], "the same run");
    assert!(run["resumed"].as_u64() >= Some(1), "{run}");
    stand.becomes_equal().await;
    assert_eq!(reader.stop().await, BTreeSet::from([rows()]), "no record was missing at any time");
    terminate(services).await;
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reimport_is_cancelled_and_deletes_nothing() {
    let options = "limits: { lanes: 4, lease_ms: 3000, page_records_max: 250 }";
    let stand = Stand::unscheduled("cancel", options).await;
    let services = copied(&stand).await;
    let before = status(&stand)["run"]["id"].clone();
    let gone = "DELETE FROM items WHERE id <= 5";
    sqlx::query(gone).execute(&mut stand.connect().await).await.unwrap();
    stand.before_host.set(Weather::Delay(Duration::from_millis(400)));
    let reimport = json!({ "id": "long", "requester": "test", "command": "reimport", "pipelines": [stand.pipeline], "mode": "full" });
    assert_eq!(ask(&stand, &reimport).await["status"], "accepted");
    until("the run is under way", async || status(&stand)["run"]["id"] != before).await;
    let cancel =
        json!({ "id": "stop", "requester": "somebody else", "command": "cancel", "pipelines": [stand.pipeline] });
    assert_eq!(ask(&stand, &cancel).await["status"], "done");
    let ended = ask_until_ended(&stand, &reimport).await;
    assert_eq!(ended["status"], "refused", "{ended}");
    assert!(ended["reason"].as_str().unwrap().contains("cancelled by somebody else"), "{ended}");
    stand.before_host.set(Weather::Fair);
    assert_eq!(stand.copied().await, rows(), "what it had not met before it ended is still there");
    let again = json!({ "id": "again", "requester": "test", "command": "reimport", "pipelines": [stand.pipeline] });
    assert_eq!(ask_until_ended(&stand, &again).await["status"], "done");
    stand.becomes_equal().await;
    assert_eq!(stand.copied().await, rows() - 5);
    terminate(services).await;
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_clean_up_deletes_what_is_approved_and_no_more() {
    let stand = Stand::unscheduled("approve", "limits: { lanes: 4, lease_ms: 3000 }").await;
    let services = copied(&stand).await;
    let mut host = stand.connect().await;
    let gone = rows() / 2;
    let delete = format!("DELETE FROM items WHERE id <= {gone}");
    sqlx::query(AssertSqlSafe(delete)).execute(&mut host).await.unwrap();
    let cleanup = json!({ "id": "c", "requester": "test", "command": "cleanup", "pipelines": [stand.pipeline] });
    let refused = ask_until_ended(&stand, &cleanup).await;
    assert_eq!(refused["status"], "refused", "{refused}");
    assert_eq!(stand.copied().await, rows());
    let (_, stdout, _) = stand.fides(&["status"]);
    let run = status(&stand)["refused"]["run"].as_str().unwrap().to_owned();
    let advice = format!("fides approve {} {run} --deletions-max {gone}", stand.pipeline);
    assert!(stdout.contains(&advice), "{advice}: {stdout}");

    let approve = |id: &str, run: &str, most: i64| {
        json!({
            "id": id, "requester": "test", "command": "approve", "pipeline": stand.pipeline, "run": run,
            "deletions_max": most,
        })
    };
    assert_eq!(ask(&stand, &approve("other run", "nope", gone)).await["status"], "refused");
    let wrong = ask(&stand, &approve("a1", "nope", gone)).await;
    assert!(wrong["reason"].as_str().unwrap().contains(&run), "{wrong}");
    let too_few = ask_until_ended(&stand, &approve("a2", &run, gone - 1)).await;
    assert_eq!(too_few["status"], "refused", "{too_few}");
    assert_eq!(stand.copied().await, rows(), "above the ceiling nothing is deleted");
    let run = status(&stand)["refused"]["run"].as_str().unwrap().to_owned();
    let done = ask_until_ended(&stand, &approve("a3", &run, gone)).await;
    assert_eq!(done["status"], "done", "{done}");
    assert_eq!(done["detail"][&stand.pipeline]["deleted"], gone, "{done}");
    stand.becomes_equal().await;
    assert!(status(&stand)["refused"].is_null());
    terminate(services).await;
    stand.close().await;
}
