// Looks every two seconds, and shows what it sees.

import { status } from "./api.js";
import { dress, find, lasted, say } from "./dom.js";
import { History } from "./history.js";
import { overview } from "./overview.js";
import { pipelines } from "./pipelines.js";

const EVERY_MS = 2000;
const EVERY_MS_HIDDEN = 15000;

const history = new History();
const state = find("#state");
let seenAt = null;

async function look() {
  try {
    const seen = await status();
    const histories = history.take(seen);
    overview(seen, histories);
    pipelines(seen, histories);
    seenAt = performance.now();
    const time = new Date(seen.at_ms).toISOString().slice(11, 19);
    say(state, `${seen.release} · live, as of ${time} UTC`);
    dress(state, "");
  } catch (error) {
    const since = seenAt === null ? "" : `; what is shown is ${lasted(performance.now() - seenAt)} old`;
    say(state, `no answer: ${error.message}${since}`);
    dress(state, "bad");
  }
  setTimeout(look, document.hidden ? EVERY_MS_HIDDEN : EVERY_MS);
}

look();
