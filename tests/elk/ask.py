"""Puts documents into a server with Elasticsearch's interface, and asks it what the panels and the alerts ask."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from filter import events

ELK = Path("infra/elk")
INDEX = "logs-fides-default"


def main(server: str, lines: str) -> None:
    until_there(server)
    template = json.loads((ELK / "template.json").read_text())
    # The server that stands in has indices only; Elasticsearch makes a data stream of the same mappings.
    template["template"].pop("lifecycle")
    template.pop("data_stream")
    call(server, "PUT", "_index_template/fides-logs", json.dumps(template))
    written = Path(lines).read_text(encoding="utf-8").splitlines()
    documents = events((ELK / "logstash.conf").read_text(), written)
    assert documents, "no line passed the filter"
    described(documents)
    bulk = "".join('{"create":{}}\n' + json.dumps(document) + "\n" for document in documents)
    answer = call(server, "POST", f"{INDEX}/_bulk?refresh=true", bulk, "application/x-ndjson")
    failed = [item["create"]["error"] for item in answer["items"] if item["create"]["status"] >= 300]
    assert not failed, failed[0]
    print(f"{len(written)} lines, {len(documents)} documents")
    panels = ask_panels(server)
    alerts = ask_alerts(server)
    print(f"{panels} panels and {alerts} alerts got an answer")


def described(documents: list[dict]) -> None:
    """What every document must have, whichever line it comes from."""
    for document in documents:
        names = ("@timestamp", "log.level", "message", "ecs.version", "service.name", "service.version", "event.dataset", "log.logger")
        missing = [name for name in names if name not in document]
        assert not missing, f"{missing} missing in {document}"


def ask_panels(server: str) -> int:
    built = subprocess.run([sys.executable, ELK / "dashboards.py", "--queries"], check=True, capture_output=True, text=True)
    panels = [json.loads(line) for line in built.stdout.splitlines()]
    for panel in panels:
        where = f"{panel['dashboard']}: {panel['panel']}"
        found = call(server, "POST", f"{INDEX}/_search", json.dumps(panel["request"]))
        assert found["hits"]["total"]["value"] > 0, f"{where}: no document"
        for name in panel["fields"]:
            narrowed = json.loads(json.dumps(panel["request"])) | {"size": 0}
            narrowed.pop("aggs", None)
            narrowed["query"]["bool"]["filter"].append({"exists": {"field": name}})
            having = call(server, "POST", f"{INDEX}/_search", json.dumps(narrowed))
            assert having["hits"]["total"]["value"] > 0, f"{where}: no document has {name}"
        assert filled(found.get("aggregations", {})), f"{where}: an empty picture: {found['aggregations']}"
    return len(panels)


def filled(aggregations: dict) -> bool:
    """Every level of the answer has buckets, down to the numbers."""
    for answer in aggregations.values():
        if "buckets" in answer:
            inner = [{name: one for name, one in bucket.items() if isinstance(one, dict)} for bucket in answer["buckets"] if bucket["doc_count"]]
            if not inner or not any(filled(one) for one in inner):
                return False
        elif answer.get("value") is None:
            return False
    return True


def ask_alerts(server: str) -> int:
    files = sorted((ELK / "alerts").glob("*.json"))
    for file in files:
        rule = json.loads(file.read_text())
        query = json.loads(rule["params"]["esQuery"])
        found = call(server, "POST", f"{INDEX}/_search", json.dumps(query))
        assert found["hits"]["total"]["value"] > 0, f"{file.name}: nothing that was captured would raise it"
    return len(files)


def call(server: str, method: str, path: str, body: str | None = None, kind: str = "application/json") -> dict:
    request = urllib.request.Request(f"{server}/{path}", body and body.encode(), {"Content-Type": kind}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from error


def until_there(server: str) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            call(server, "GET", "")
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.05)


main(*sys.argv[1:])
