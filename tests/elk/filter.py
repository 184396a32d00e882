"""Applies the filter of a Logstash pipeline to lines: as much of Logstash as infra/elk/logstash.conf uses, no more.

What it does not know it refuses, so that a change of the pipeline cannot pass unnoticed.
"""

import json
import re
from typing import Any

from logstash_pipeline_parser import Pipeline


class Dropped(Exception):
    """The event ends here."""


def events(pipeline: str, lines: list[str]) -> list[dict]:
    sections = dict((name, body) for name, body in Pipeline(pipeline).parse())
    assert set(sections) == {"input", "filter", "output"}, sections.keys()
    kept = []
    for line in lines:
        # What Filebeat adds of its own, so that a name that clashes is noticed.
        event = {"message": line.rstrip("\n"), "log": {"offset": 1}, "agent": {}, "host": {}, "input": {}, "ecs": {}}
        try:
            for step in sections["filter"]:
                apply(event, step)
        except Dropped:
            continue
        kept.append({name: value for name, value in event.items() if name != "@metadata"})
    return kept


def apply(event: dict, step: list) -> None:
    name, body = step
    match name:
        case "if":
            (reference, operator, wanted), steps = body
            assert operator == "!=", f"unknown condition {body}"
            if get(event, reference) != wanted:
                for inner in steps[0]:
                    apply(event, inner)
        case "drop":
            raise Dropped
        case "json":
            parse(event, {option: values[0] for option, values in body})
        case "mutate":
            for option, values in sorted(body, key=lambda one: one[0] != "rename"):
                mutate(event, option, values[0])
        case _:
            raise AssertionError(f"unknown filter {name}")


def parse(event: dict, options: dict[str, Any]) -> None:
    assert set(options) - {"target"} == {"source", "skip_on_invalid_json"}, options
    try:
        value = json.loads(get(event, options["source"]) or "")
    except ValueError:
        return
    if "target" in options:
        put(event, options["target"], value)
    elif isinstance(value, dict):
        event.update(value)


def mutate(event: dict, option: str, values: list) -> None:
    match option:
        case "rename":
            for old, [new] in values:
                value = take(event, old)
                if value is not None:
                    put(event, new, value)
        case "add_field":
            for reference, [value] in values:
                put(event, reference, value)
        case "remove_field":
            for reference in values:
                take(event, reference)
        case _:
            raise AssertionError(f"unknown option {option} of mutate")


def path(reference: str) -> list[str]:
    return re.findall(r"\[([^\]]+)\]", reference) or [reference]


def get(event: dict, reference: str) -> Any:
    value: Any = event
    for name in path(reference):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def put(event: dict, reference: str, value: Any) -> None:
    *parents, last = path(reference)
    for name in parents:
        event = event.setdefault(name, {})
    event[last] = value


def take(event: dict, reference: str) -> Any:
    *parents, last = path(reference)
    holder = get(event, "".join(f"[{name}]" for name in parents)) if parents else event
    return holder.pop(last, None) if isinstance(holder, dict) else None
