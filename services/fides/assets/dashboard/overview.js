// Everything that is not about one pipeline alone: sums, remarks, processes, breakers, commands.

import { count, dress, find, instant, keep, lasted, make, number, rate, rows, say, share } from "./dom.js";

const sum = (items, of) => items.reduce((all, item) => all + of(item), 0);

export function overview(seen, histories) {
  const { pipelines, processes } = seen;
  const latest = pipelines.map(({ pipeline }) => histories.get(pipeline).at(-1));
  const runs = pipelines.map(({ run }) => run?.counts).filter(Boolean);
  tiles([
    ["pipelines", number(pipelines.length)],
    ["records held", number(sum(pipelines, ({ records }) => records))],
    ["messages queued", number(sum(latest, ({ queued }) => queued))],
    ["written per second", processes.length ? rate(sum(latest, ({ written }) => written)) : "–"],
    ["writes avoided", share(sum(runs, ({ unchanged }) => unchanged), sum(runs, ({ read }) => read))],
    ["dead letters", number(sum(pipelines, ({ dead }) => dead))],
  ]);
  remarks(pipelines.flatMap((pipeline) => ofPipeline(pipeline, seen)).concat(ofParts(processes)));
  parts(processes);
  working(seen);
  commands(seen);
}

function tiles(all) {
  const create = ([name]) => make("div", {}, make("dt", {}, name), make("dd"));
  keep(find("#overview"), all, ([name]) => name, create, (tile, [, value]) => say(tile.lastChild, value));
}

function remarks(all) {
  find("#attention").hidden = all.length === 0;
  const create = () => make("li");
  keep(find("#remarks"), all, ({ key }) => key, create, (item, { text, bad }) => {
    say(item, text);
    dress(item, bad ? "remark bad" : "remark");
  });
}

// Lanes that cannot work, and why, as the processes that hold them tell.
export function waiting(name, processes) {
  const lanes = new Map();
  for (const { pipelines } of processes) {
    for (const [lane, reason] of Object.entries(pipelines[name]?.waiting ?? {})) lanes.set(Number(lane), reason);
  }
  return lanes;
}

function ofPipeline(pipeline, { at_ms, processes }) {
  const { pipeline: name, run, dead, paused, refused, cleaned, verified } = pipeline;
  const found = [];
  const remark = (kind, text, bad = false) => found.push({ key: `${name} ${kind}`, text: `${name}: ${text}`, bad });
  if (paused) remark("paused", `paused ${lasted(at_ms - paused.since_ms)} ago by ${paused.requester}; “fides resume ${name}” goes on`);
  const why = refused?.why ?? run?.sweep?.refused;
  if (why) {
    const approve = refused && !refused.approved_by && refused.candidates > 0
      ? `; if they are to go: “fides approve ${name} ${refused.run} --deletions-max ${refused.candidates}”` : "";
    remark("refused", `nothing was deleted: ${why}${approve}`, true);
  }
  if (cleaned?.report.foreign > 0) remark("foreign", `${count(cleaned.report.foreign, "row")} of the target never written by Fides`);
  if (verified?.drifted > 0) remark("drift", `${count(verified.drifted, "record")} drifted (${verified.keys.join(", ")}), found ${lasted(at_ms - verified.ended_ms)} ago`, true);
  if (dead > 0) remark("dead", `${count(dead, "dead letter")}; see below`);
  const lanes = waiting(name, processes);
  if (lanes.size > 0) remark("lanes", `${count(lanes.size, "lane")} cannot work: ${[...new Set(lanes.values())].join("; ")}`, true);
  if (run && !run.ended_ms && !run.cancelled && processes.length === 0) remark("interrupted", "its import was interrupted; the next sync goes on with it");
  return found;
}

function ofParts(processes) {
  return breakers(processes).filter(({ state }) => state !== "closed")
    .map(({ part, state, by }) => ({ key: `breaker ${part}`, text: `${part}: the circuit breaker is ${state} (${by})`, bad: state === "open" }));
}

const WORSE = ["closed", "half-open", "open"];

// The worst state of each part, and who sees it so.
function breakers(processes) {
  const worst = new Map();
  for (const { service, breakers } of processes) {
    for (const [part, state] of Object.entries(breakers)) {
      const known = worst.get(part);
      if (!known || WORSE.indexOf(state) > WORSE.indexOf(known.state)) worst.set(part, { part, state, by: new Set([service]) });
      else if (known.state === state) known.by.add(service);
    }
  }
  return [...worst.values()].map(({ part, state, by }) => ({ part, state, by: [...by].join(", ") }))
    .sort((one, other) => one.part.localeCompare(other.part));
}

function parts(processes) {
  const colour = { closed: "good", "half-open": "warn", open: "bad" };
  rows(find("#parts"), find("#parts-none"), breakers(processes), ({ part }) => part, ["part", "state", "as seen by"],
    ({ part, state, by }) => [part, [state, colour[state]], by]);
}

function working({ processes, at_ms }) {
  rows(find("#processes"), find("#processes-none"), processes, ({ instance }) => instance, ["service", "lanes", "does", "heard"],
    ({ service, pipelines, at_ms: told }) => {
      const works = Object.entries(pipelines);
      const does = works.filter(([, { phase }]) => phase).map(([name, { phase }]) => `${name}: ${phase}`);
      return [service, number(sum(works, ([, { lanes }]) => lanes)), does.join("; ") || "–", `${lasted(at_ms - told)} ago`];
    });
}

function commands({ commands, at_ms }) {
  const colour = { accepted: "warn", done: "good", refused: "bad" };
  rows(find("#commands"), find("#commands-none"), commands, ({ answer }) => answer.id,
    ["asked", "command", "status", "by", "became"],
    ({ received_ms, requester, command, answer }) =>
      [`${lasted(at_ms - received_ms)} ago`, command, [answer.status, colour[answer.status]], requester, became(answer)]);
}

// `items: published 12, deleted 0`
function became({ reason, detail }) {
  if (reason) return reason;
  const told = Object.entries(detail ?? {}).map(([pipeline, fields]) => {
    const parts = Object.entries(fields).filter(([name, value]) => name !== "status" && name !== "run" && value !== null);
    return `${pipeline}: ${parts.map(toldField).join(", ")}`;
  });
  return told.join("; ");
}

function toldField([name, value]) {
  if (name.endsWith("_ms")) return `${name.slice(0, -3)} ${instant(value)}`;
  return `${name.replaceAll("_", " ")} ${typeof value === "number" ? number(value) : value}`;
}
