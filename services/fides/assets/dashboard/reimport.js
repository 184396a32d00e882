// An import on demand, which wants the pipeline's name typed; and what is said about answers.

import { order } from "./api.js";
import { find, say } from "./dom.js";

const SHOWN_MS = 8000;

const dialog = find("#reimport");
const form = find("form", dialog);
const submit = find("button[type=submit]", dialog);
const problem = find(".problem", dialog);
let pipeline = "";

const isConfirmed = () => form.confirm.value === pipeline;

form.confirm.addEventListener("input", () => { submit.disabled = !isConfirmed(); });
find("button[value=cancel]", dialog).addEventListener("click", () => dialog.close());
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!isConfirmed()) return;
  submit.disabled = true;
  try {
    const body = { pipeline, mode: form.mode.value, confirm: form.confirm.value };
    const answer = await order("reimport", body);
    if (answer.status === "refused") say(problem, answer.reason);
    else {
      dialog.close();
      notify(toldAnswer(`reimport of ${pipeline}`, answer));
    }
  } catch (error) {
    say(problem, error.message);
  } finally {
    submit.disabled = !isConfirmed();
  }
});

export function askForReimport(name) {
  pipeline = name;
  form.reset();
  say(problem, "");
  submit.disabled = true;
  dialog.querySelectorAll(".name").forEach((element) => say(element, name));
  dialog.showModal();
  form.confirm.focus();
}

export const toldAnswer = (what, { status, reason }) => `${status}: ${what}${reason ? `: ${reason}` : ""}`;

let hiding = 0;

export function notify(text) {
  const notice = find("#notice");
  say(notice, text);
  notice.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { notice.hidden = true; }, SHOWN_MS);
}
