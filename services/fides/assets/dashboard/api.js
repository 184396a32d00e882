// The way to the server. The token, where there is one, is kept for this tab alone.

import { find } from "./dom.js";

const TOKEN = "fides-token";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const status = () => ask("api/status");

export function letters(pipeline, after) {
  const query = new URLSearchParams({ pipeline });
  if (after !== undefined) query.set("after", after);
  return ask(`api/dead?${query}`);
}

// What is asked has an id of its own: asked again because an answer was lost, it is done once.
export const order = (name, body) => ask(`api/${name}`, { id: identity(), ...body });

async function ask(path, body) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  const request = { headers, cache: "no-store", signal: AbortSignal.timeout(60000) };
  if (body) {
    headers["Content-Type"] = "application/json";
    Object.assign(request, { method: "POST", body: JSON.stringify(body) });
  }
  const answer = await fetch(path, request);
  const said = await answer.json().catch(() => ({ error: `an answer that is no JSON (${answer.status})` }));
  if (answer.status === 401) {
    await introduce(token ? said.error : "");
    return ask(path, body);
  }
  if (!answer.ok) throw new Refused(answer.status, said.error);
  return said;
}

// crypto.randomUUID is there only where the page came by TLS or over loopback.
function identity() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return "page-" + [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

let introduction = null;

// Asks for the token, once for all requests that want it.
function introduce(problem) {
  introduction ??= new Promise((resolve) => {
    const dialog = find("#token");
    const form = find("form", dialog);
    find(".problem", dialog).textContent = problem;
    form.onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, form.token.value.trim());
      form.reset();
      dialog.close();
    };
    dialog.onclose = () => {
      introduction = null;
      resolve();
    };
    dialog.showModal();
  });
  return introduction;
}
