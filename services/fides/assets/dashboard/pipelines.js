// One card for each pipeline.

import { chart } from "./chart.js";
import { count, dress, find, keep, lasted, make, number, rate, say, share } from "./dom.js";
import { lettersOf } from "./letters.js";
import { waiting } from "./overview.js";
import { askForReimport } from "./reimport.js";

const cards = new Map();

export function pipelines(seen, histories) {
  keep(find("#pipelines"), seen.pipelines, ({ pipeline }) => pipeline, create, (_, pipeline) => {
    cards.get(pipeline.pipeline)(pipeline, seen, histories.get(pipeline.pipeline));
  });
}

// Builds a card; what fills it is kept in `cards`.
function create({ pipeline: name }) {
  const badge = make("span", { class: "badge" });
  const button = make("button", { type: "button", onclick: () => askForReimport(name) }, "Reimport…");
  const bar = make("progress", { "aria-label": `progress of the import of ${name}` });
  const told = make("p", { class: "quiet" });
  const facts = make("dl", { class: "facts" });
  const throughput = chart("Records per second", [
    { name: "sent", of: ({ published }) => published },
    { name: "written", of: ({ written }) => written },
  ], rate);
  const lag = chart("Lag", [{ name: "messages queued", of: ({ queued }) => queued }], number);
  const lanes = make("ul", { class: "lanes", "aria-label": `lanes of ${name}` });
  const letters = lettersOf(name);
  const title = `pipeline-${name}`;
  const card = make("article", { "aria-labelledby": title },
    make("header", {}, make("h3", { id: title }, name), badge, make("div", { class: "actions" }, button)),
    make("div", { class: "run" }, bar, told), facts,
    make("div", { class: "charts" }, throughput.figure, lag.figure), lanes, letters.node);

  cards.set(name, (pipeline, seen, samples) => {
    const troubled = waiting(name, seen.processes);
    const state = stateOf(pipeline, seen, troubled);
    say(badge, state.text);
    dress(badge, `badge ${state.name}`);
    const { run, records } = pipeline;
    bar.hidden = !run || Boolean(run.ended_ms) || Boolean(run.cancelled);
    if (!bar.hidden) advance(bar, run.counts.read, records);
    say(told, toldRun(run, records, seen.at_ms));
    fillFacts(facts, pipeline, samples.at(-1));
    throughput.update(samples);
    lag.update(samples);
    fillLanes(lanes, pipeline, troubled);
    letters.update(pipeline.dead);
  });
  return card;
}

function stateOf({ run, paused, lanes }, { processes }, troubled) {
  if (paused) return { text: "paused", name: "warn" };
  if (troubled.size > 0) return { text: "waiting", name: "bad" };
  if (processes.length === 0) return { text: "nobody works", name: "warn" };
  if (run && !run.ended_ms && !run.cancelled) return { text: "importing", name: "good" };
  if (lanes.some(({ depth }) => depth > 0)) return { text: "writing", name: "good" };
  return { text: run ? "up" : "new", name: "good" };
}

// How much there is to read is known from the records that are held: a first import has no end that one could show.
function advance(bar, read, records) {
  if (records > read) {
    bar.max = records;
    bar.value = read;
  } else bar.removeAttribute("value");
}

function toldRun(run, records, now) {
  if (!run) return "never imported";
  const { counts, mode, started_ms, ended_ms, resumed, cancelled, sweep } = run;
  const parts = [`${mode.toLowerCase()} import`];
  if (cancelled) parts.push(`cancelled by ${cancelled}`);
  else if (ended_ms) parts.push(`ended ${lasted(now - ended_ms)} ago after ${lasted(ended_ms - started_ms)}`);
  else parts.push(`began ${lasted(now - started_ms)} ago`, records > counts.read ? `${number(counts.read)} of about ${number(records)} read` : `${number(counts.read)} read`);
  if (resumed > 0) parts.push(`resumed ${count(resumed, "time")}`);
  if (sweep?.deleted > 0) parts.push(`${count(sweep.deleted, "record")} deleted`);
  return parts.join(", ");
}

function fillFacts(list, { run, records, dead, mark_bytes }, latest) {
  const counts = run?.counts ?? { read: 0, unchanged: 0, published: 0 };
  const facts = [
    ["records held", number(records)],
    ["read", number(counts.read)],
    ["sent", number(counts.published)],
    ["avoided", share(counts.unchanged, counts.read)],
    ["oldest in hand", latest.lag === null ? "–" : lasted(latest.lag)],
    ["marks", `${number(Math.ceil(mark_bytes / 1024))} KiB`],
    ["dead letters", number(dead)],
  ];
  const create = ([name]) => make("div", {}, make("dt", {}, name), make("dd"));
  keep(list, facts, ([name]) => name, create, (fact, [, value]) => say(fact.lastChild, value));
}

function fillLanes(list, { lanes }, troubled) {
  keep(list, lanes, ({ lane }) => lane, () => make("li"), (item, { lane, depth }) => {
    const reason = troubled.get(lane);
    say(item, `lane ${lane}: ${reason ? "waits, " : ""}${number(depth)} queued`);
    dress(item, reason ? "waits" : depth > 0 ? "busy" : "");
    item.title = reason ?? "";
  });
}
