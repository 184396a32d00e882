// Dead letters of a pipeline: shown when they are asked for, and replayed.

import { letters, order } from "./api.js";
import { count, instant, keep, make, say } from "./dom.js";
import { notify, toldAnswer } from "./reimport.js";

export function lettersOf(pipeline) {
  const summary = make("summary");
  const problem = make("p", { class: "problem", role: "alert" });
  const list = make("ul", { class: "letters" });
  const all = make("button", { type: "button", onclick: () => replay({ all: true }, all) }, "Replay all");
  const more = make("button", { type: "button", hidden: true, onclick: () => load(shown.at(-1)?.key) }, "Show more");
  const node = make("details", { hidden: true, ontoggle: () => node.open && load() }, summary, problem, list, make("div", { class: "actions" }, more, all));
  let shown = [];
  let known = 0;

  // The first ones, or those behind `after` too.
  async function load(after) {
    try {
      const found = await letters(pipeline, after);
      shown = after === undefined ? found.letters : [...shown, ...found.letters];
      more.hidden = !found.more;
      say(problem, "");
      keep(list, shown, ({ key }) => key, create, update);
    } catch (error) {
      say(problem, `The dead letters cannot be read: ${error.message}`);
    }
  }

  function create({ key }) {
    const button = make("button", { type: "button", "aria-label": `Replay ${key}`, onclick: () => replay({ keys: [key] }, button) }, "Replay");
    return make("li", {}, make("b", {}, key), button, make("p", { class: "reason" }), make("p", { class: "quiet told" }),
      make("details", {}, make("summary", {}, "Record"), make("pre")));
  }

  function update(item, { reason, record, attempts, first_ms, last_ms }) {
    const [, , why, told, details] = item.children;
    say(why, reason);
    say(told, `${count(attempts, "attempt")}, first ${instant(first_ms)}, last ${instant(last_ms)}`);
    say(details.lastChild, record);
  }

  async function replay(which, button) {
    button.disabled = true;
    try {
      notify(toldAnswer(`replay in ${pipeline}`, await order("replay", { pipeline, ...which })));
    } catch (error) {
      notify(`The replay was not asked for: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  }

  return {
    node,
    update(dead) {
      node.hidden = dead === 0;
      say(summary, count(dead, "dead letter"));
      if (node.open && dead !== known && dead > 0) load();
      known = dead;
    },
  };
}
