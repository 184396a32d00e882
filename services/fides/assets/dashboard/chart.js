// A small chart over time: one line for each series, the newest at the right.

import { draw, lasted, make, say } from "./dom.js";
import { WINDOW_MS } from "./history.js";

const WIDTH = 300;
const HEIGHT = 80;
const SPAN_MS_MIN = 60_000;
// Between samples that are further apart nobody looked.
const GAP_MS = 30_000;

// `series`: [{ name, of: (sample) => number or null }]; `show` writes a number.
export function chart(title, series, show) {
  const values = series.map(() => make("b"));
  const keys = series.map(({ name }, at) => make("span", { class: "key" }, `${name} `, values[at]));
  const top = make("span", { class: "top" });
  const paths = series.map((_, at) => draw("path", { class: `series-${at}` }));
  const area = draw("path", { class: "area" });
  const plot = draw("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, area, ...paths);
  const figure = make("figure", {}, make("figcaption", {}, make("span", {}, title), ...keys, top), plot);

  function update(samples) {
    const now = samples.at(-1).at;
    const span = Math.min(WINDOW_MS, Math.max(SPAN_MS_MIN, now - samples[0].at));
    const highest = Math.max(0, ...samples.flatMap((sample) => series.map(({ of }) => of(sample) ?? 0)));
    const place = (sample, value) => [
      (WIDTH * (1 - (now - sample.at) / span)).toFixed(1),
      (HEIGHT - 1 - (HEIGHT - 4) * (highest > 0 ? value / highest : 0)).toFixed(1),
    ];
    const told = series.map(({ name, of }, at) => {
      const points = samples.map((sample) => ({ sample, value: of(sample) })).filter(({ value }) => value !== null);
      paths[at].setAttribute("d", line(points, place));
      if (at === 0) area.setAttribute("d", points.length > 1 ? below(points, place) : "");
      const latest = of(samples.at(-1));
      const text = latest === null ? "–" : show(latest);
      say(values[at], text);
      return `${name} ${text}`;
    });
    say(top, `top ${show(highest)} in ${lasted(span)}`);
    plot.setAttribute("aria-label", `${title}: now ${told.join(", ")}; highest ${show(highest)} in the last ${lasted(span)}`);
  }

  return { figure, update };
}

function line(points, place) {
  return points.map(({ sample, value }, at) => {
    const isNew = at === 0 || sample.at - points[at - 1].sample.at > GAP_MS;
    return `${isNew ? "M" : "L"}${place(sample, value).join(" ")}`;
  }).join("");
}

function below(points, place) {
  const [first, last] = [points[0], points.at(-1)].map(({ sample }) => place(sample, 0)[0]);
  const over = points.map(({ sample, value }) => `L${place(sample, value).join(" ")}`).join("");
  return `M${first} ${HEIGHT}${over}L${last} ${HEIGHT}Z`;
}
