// Looks every two seconds, and shows what it sees.

import { status } from "./api.js";
import { dress, find, lasted, say } from "./dom.js";
import { History } from "./history.js";
import { overview } from "./overview.js";
import { pipelines } from "./pipelines.js";
import { notify } from "./reimport.js";

const EVERY_MS = 2000;
const EVERY_MS_HIDDEN = 15000;

const history = new History();
const state = find("#state");
let seenAt = null;
let isLost = false;

async function look() {
  try {
    const seen = await status();
    const histories = history.take(seen);
    overview(seen, histories);
    pipelines(seen, histories);
    seenAt = performance.now();
    isLost = false;
    const time = new Date(seen.at_ms).toISOString().slice(11, 19);
    say(state, `${seen.release} · live, as of ${time} UTC`);
    dress(state, "");
  } catch (error) {
    const since = seenAt === null ? "" : `; what is shown is ${lasted(performance.now() - seenAt)} old`;
    say(state, `no answer: ${error.message}${since}`);
    dress(state, "bad");
    // Said once to those who do not see it, and not at every look.
    if (!isLost) notify(`No answer: ${error.message}`);
    isLost = true;
  }
  setTimeout(look, document.hidden ? EVERY_MS_HIDDEN : EVERY_MS);
}

look();
