#!/usr/bin/env python3
"""Builds dashboards.ndjson, which Kibana imports, from the panels below. Needs nothing but Python 3.11.

    infra/elk/dashboards.py > infra/elk/dashboards.ndjson
    infra/elk/dashboards.py --queries        each panel's question as Elasticsearch is asked it: what tests/elk runs

Every panel is about log lines with given messages, which are stable: a panel is a filter, what is measured of the lines,
and by which field they are told apart.
"""

import json
import sys
from dataclasses import dataclass, field

DATA_VIEW = "fides-logs"
DRIFT = "the target differs from the host, and no import will mend it: run `fides verify --repair`"


@dataclass
class Panel:
    """One picture. `kind`: `over_time` (bars), `table` (top values), `number`, or `lines` (the log lines themselves)."""

    title: str
    kind: str
    messages: list[str] = field(default_factory=list)  # all lines when empty
    levels: list[str] = field(default_factory=list)
    sums: list[str] = field(default_factory=list)  # fields that are added up; lines are counted when empty
    by: list[str] = field(default_factory=list)  # fields that tell apart; for `lines`: the columns
    wide: bool = False

    def fields(self) -> set[str]:
        return {*self.sums, *self.by, "@timestamp"} | ({"message"} if self.messages else set())


DASHBOARDS = {
    "overview": ("Overview", [
        Panel("Lines by level", "over_time", by=["log.level"], wide=True),
        Panel("Warnings and errors by service", "over_time", levels=["WARN", "ERROR"], by=["service.name"]),
        Panel("What they say", "table", levels=["WARN", "ERROR"], by=["message.keyword", "service.name"]),
        Panel("Not ready, and why", "table", ["not ready"], by=["fides.part", "fides.reason"]),
        Panel("Pipelines stopped by a fault", "table",
              ["stopped by a fault; it goes on after a while"], by=["fides.pipeline", "error.message.keyword"]),
        Panel("Errors", "lines", levels=["ERROR"],
              by=["service.name", "fides.pipeline", "message", "error.message"], wide=True),
    ]),
    "pipeline": ("Pipelines", [
        Panel("Records read by imports", "over_time", ["import finished"], sums=["fides.read"], by=["fides.pipeline"]),
        Panel("Records published by imports", "over_time", ["import finished"],
              sums=["fides.published"], by=["fides.pipeline"]),
        Panel("Imports: how many, read, published", "table", ["import finished"],
              sums=["fides.read", "fides.published"], by=["fides.pipeline"]),
        Panel("Marks were lost, or a host has another history", "lines",
              ["versions have a new authority, or marks were lost: the epoch has risen"],
              by=["fides.pipeline", "fides.last", "fides.epoch", "fides.lineage"]),
        Panel("Imports", "lines", ["import finished"],
              by=["fides.pipeline", "fides.run", "fides.read", "fides.published"], wide=True),
    ]),
    "publishing": ("Publishing and breakers", [
        Panel("Lanes paused", "over_time", ["lane paused"], by=["fides.lane"], wide=True),
        Panel("Failed calls by part", "over_time", ["call failed"], by=["fides.part"]),
        Panel("Failed calls by operation", "table", ["call failed"], by=["fides.part", "fides.operation"]),
        Panel("Breakers opened", "over_time", ["breaker open: calls are refused"], by=["fides.part"]),
        Panel("Breakers closed", "over_time", ["breaker closed"], by=["fides.part"]),
        Panel("Why lanes are paused", "table", ["lane paused"], by=["error.message.keyword"], wide=True),
    ]),
    "dead-letters": ("Dead letters", [
        Panel("Dead letters", "number", ["dead letter"]),
        Panel("Dead letters by pipeline", "over_time", ["dead letter"], by=["fides.pipeline"]),
        Panel("Reasons", "table", ["dead letter"], by=["fides.pipeline", "fides.reason"], wide=True),
        Panel("Records", "lines", ["dead letter"], by=["fides.pipeline", "fides.key", "fides.reason", "trace.id"], wide=True),
    ]),
    "clean-up": ("Clean-up and verify", [
        Panel("Clean-ups: candidates and deleted", "table", ["clean-up finished"],
              sums=["fides.candidates", "fides.deleted"], by=["fides.pipeline"]),
        Panel("Deleted", "over_time", ["clean-up finished"], sums=["fides.deleted"], by=["fides.pipeline"]),
        Panel("Refused", "over_time", ["clean-up refused: nothing was deleted"], by=["fides.pipeline"]),
        Panel("Why they were refused", "lines", ["clean-up refused: nothing was deleted"],
              by=["fides.pipeline", "fides.run", "fides.candidates", "fides.why"], wide=True),
        Panel("Compared by schedule: equal", "over_time", ["both sides compared"], sums=["fides.equal"], by=["fides.pipeline"]),
        Panel("Drifted", "over_time", [DRIFT], sums=["fides.drifted"], by=["fides.pipeline"]),
        Panel("What drifted", "lines", [DRIFT], by=["fides.pipeline", "fides.drifted", "fides.keys"], wide=True),
    ]),
}


def conditions(panel: Panel) -> list[dict]:
    """The panel's filter in Elasticsearch's own terms."""
    terms = {"message.keyword": panel.messages, "log.level": panel.levels}
    return [{"terms": {name: values}} for name, values in terms.items() if values]


def question(panel: Panel) -> dict:
    """The request that the picture comes from."""
    aggregations: dict = {f"sum {name}": {"sum": {"field": name}} for name in panel.sums}
    for name in reversed(panel.by if panel.kind != "lines" else []):
        aggregations = {f"by {name}": {"terms": {"field": name, "size": 10}, "aggs": aggregations}}
    if panel.kind == "over_time":
        aggregations = {"over time": {"date_histogram": {"field": "@timestamp", "fixed_interval": "1m"}, "aggs": aggregations}}
    found = {"size": 50 if panel.kind == "lines" else 0, "query": {"bool": {"filter": conditions(panel)}}}
    return found | ({"aggs": aggregations} if aggregations else {})


def search_source(panel: Panel) -> str:
    """The panel's filter as Kibana keeps it: shown in the picture as filters that can be switched off."""
    filters = [
        {"meta": {"type": "custom", "disabled": False, "negate": False, "index": DATA_VIEW, "alias": None, "key": "query",
                  "value": json.dumps(condition)},
         "query": condition, "$state": {"store": "appState"}}
        for condition in conditions(panel)
    ]
    return json.dumps({"query": {"query": "", "language": "kuery"}, "filter": filters,
                       "indexRefName": "kibanaSavedObjectMeta.searchSourceJSON.index"})


def saved_search(identity: str, panel: Panel) -> dict:
    return saved("search", identity, {
        "title": panel.title, "columns": panel.by, "sort": [["@timestamp", "desc"]], "hits": 0, "version": 1,
        "kibanaSavedObjectMeta": {"searchSourceJSON": search_source(panel)},
    }, [data_view_reference()])


def visualization(identity: str, panel: Panel) -> dict:
    measured = [{"type": "sum", "schema": "metric", "params": {"field": name}} for name in panel.sums]
    if not measured or panel.kind == "table":
        measured.insert(0, {"type": "count", "schema": "metric", "params": {}})
    split = {"over_time": "group", "table": "bucket", "number": "group"}[panel.kind]
    apart = [{"type": "terms", "schema": split, "params": {"field": name, "size": 10, "order": "desc", "orderBy": "1"}}
             for name in panel.by]
    if panel.kind == "over_time":
        apart.insert(0, {"type": "date_histogram", "schema": "segment", "params": {"field": "@timestamp", "interval": "auto"}})
    aggs = [{"id": str(number), "enabled": True, **agg} for number, agg in enumerate([*measured, *apart], start=1)]
    kind = {"over_time": "histogram", "table": "table", "number": "metric"}[panel.kind]
    params = {"histogram": {"type": "histogram", "addLegend": True, "legendPosition": "bottom", "addTooltip": True},
              "table": {"perPage": 10, "showPartialRows": False}, "metric": {"addTooltip": True}}[kind]
    return saved("visualization", identity, {
        "title": panel.title, "version": 1, "uiStateJSON": "{}",
        "visState": json.dumps({"title": panel.title, "type": kind, "params": params, "aggs": aggs}),
        "kibanaSavedObjectMeta": {"searchSourceJSON": search_source(panel)},
    }, [data_view_reference()])


def dashboard(name: str, title: str, panels: list[tuple[str, str, Panel]]) -> dict:
    """Panels flow in rows of 48 columns: two beside each other, or a wide one."""
    placed, references, x, y = [], [], 0, 0
    for number, (kind, identity, panel) in enumerate(panels):
        width = 48 if panel.wide else 24
        if x + width > 48:
            x, y = 0, y + 14
        placed.append({"version": "8.0.0", "type": kind, "panelIndex": str(number), "embeddableConfig": {},
                       "panelRefName": f"panel_{number}",
                       "gridData": {"x": x, "y": y, "w": width, "h": 14, "i": str(number)}})
        references.append({"name": f"{number}:panel_{number}", "type": kind, "id": identity})
        x += width
    return saved("dashboard", f"fides-{name}", {
        "title": f"Fides: {title}", "version": 1, "timeRestore": True, "timeFrom": "now-24h", "timeTo": "now",
        "refreshInterval": {"pause": False, "value": 30000},
        "optionsJSON": json.dumps({"useMargins": True, "hidePanelTitles": False}), "panelsJSON": json.dumps(placed),
        "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps({"query": {"query": "", "language": "kuery"}, "filter": []})},
    }, references)


def data_view() -> dict:
    return saved("index-pattern", DATA_VIEW, {"title": "logs-fides-*", "name": "Fides: logs", "timeFieldName": "@timestamp"}, [])


def data_view_reference() -> dict:
    return {"name": "kibanaSavedObjectMeta.searchSourceJSON.index", "type": "index-pattern", "id": DATA_VIEW}


def saved(kind: str, identity: str, attributes: dict, references: list[dict]) -> dict:
    return {"type": kind, "id": identity, "attributes": attributes, "references": references}


def build() -> list[dict]:
    objects = [data_view()]
    for name, (title, panels) in DASHBOARDS.items():
        shown = []
        for number, panel in enumerate(panels):
            make, kind = (saved_search, "search") if panel.kind == "lines" else (visualization, "visualization")
            identity = f"fides-{name}-{number}"
            objects.append(make(identity, panel))
            shown.append((kind, identity, panel))
        objects.append(dashboard(name, title, shown))
    return objects


def queries() -> list[dict]:
    return [{"dashboard": name, "panel": panel.title, "kind": panel.kind, "fields": sorted(panel.fields()), "request": question(panel)}
            for name, (_, panels) in DASHBOARDS.items() for panel in panels]


if __name__ == "__main__":
    for line in queries() if sys.argv[1:] == ["--queries"] else build():
        print(json.dumps(line, sort_keys=True))
