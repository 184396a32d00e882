// What was seen in the last minutes, bounded; the server keeps none of it.

export const WINDOW_MS = 600_000;
const SAMPLES_MAX = 400;
// How often a process tells of what changed. Between two tellings a rate is the mean.
const TOLD_EVERY_MS = 2000;
const COUNTERS = ["read", "published", "written"];

export class History {
  #pipelines = new Map();
  #counted = new Map();
  #at = null;

  // Adds what is seen now, and returns each pipeline's samples.
  take(seen) {
    // The server shows a look to everybody who comes soon after it: there is nothing new in it.
    if (seen.at_ms === this.#at) return this.#pipelines;
    this.#at = seen.at_ms;
    const flows = this.#flows(seen);
    for (const pipeline of seen.pipelines) {
      const name = pipeline.pipeline;
      const samples = this.#pipelines.get(name) ?? [];
      const queued = pipeline.lanes.reduce((sum, lane) => sum + lane.depth, 0);
      samples.push({ at: seen.at_ms, queued, ...flows.get(name) });
      while (samples.length > SAMPLES_MAX || seen.at_ms - samples[0].at > WINDOW_MS) samples.shift();
      this.#pipelines.set(name, samples);
    }
    return this.#pipelines;
  }

  // Records per second and the age of the oldest change in hand, of all processes together.
  #flows(seen) {
    const flows = new Map(seen.pipelines.map(({ pipeline }) => [pipeline, { lag: null, read: 0, published: 0, written: 0 }]));
    const counted = new Map();
    for (const process of seen.processes) {
      for (const [pipeline, work] of Object.entries(process.pipelines)) {
        const flow = flows.get(pipeline);
        if (!flow) continue;
        const key = `${process.instance} ${pipeline}`;
        const now = rates(this.#counted.get(key), work, process.at_ms, seen.at_ms);
        counted.set(key, now);
        for (const counter of COUNTERS) flow[counter] += now.rates[counter];
        for (const sent of Object.values(work.in_hand)) flow.lag = Math.max(flow.lag ?? 0, seen.at_ms - sent);
      }
    }
    this.#counted = counted;
    return flows;
  }
}

function rates(before, work, toldAt, now) {
  const none = { read: 0, published: 0, written: 0 };
  if (!before) return { work, toldAt, rates: none };
  if (before.toldAt === toldAt) {
    return now - toldAt > 2 * TOLD_EVERY_MS ? { ...before, rates: none } : before;
  }
  const seconds = (toldAt - before.toldAt) / 1000;
  const per = (counter) => {
    const more = work[counter] - before.work[counter];
    // A counter that fell began anew, with another run.
    return (more < 0 ? work[counter] : more) / seconds;
  };
  return { work, toldAt, rates: Object.fromEntries(COUNTERS.map((counter) => [counter, per(counter)])) };
}
