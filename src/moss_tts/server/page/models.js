// The models of the server: which one speaks, and whether it is in memory.
import { $, element } from "./dom.js";
import { ask } from "./server.js";

// Milliseconds between two looks at a model that is being loaded.
const LOOK = 500;
const WORDS = { loaded: "in memory", loading: "being loaded", unloading: "leaving memory", unloaded: "not in memory" };

let models = [];

/** The model that the page speaks with. */
export const chosen = () => models[$("model").selectedIndex] ?? models[0] ?? null;

/** Whether a request has to name it. */
export const areSeveral = () => models.length > 1;

/** Ask the server for its models; the one that was chosen before stays, if it is still there. */
export async function loadModels(wanted) {
  models = (await (await ask("v1/models")).json()).data;
  $("model").replaceChildren(...models.map(({ id }) => element("option", { value: id })));
  choose(wanted);
  $("model-choice").hidden = !areSeveral();
  show();
}

/** Choose a model by its name; whether it was another one. */
export function choose(name) {
  const before = chosen();
  const found = models.findIndex(({ id }) => id === name);
  $("model").selectedIndex = found < 0 ? 0 : found;
  show();
  return chosen() !== before;
}

/** How far the chosen model is on its way into memory: 0 to 1; null if it is there, or nobody can tell. */
export async function look() {
  const health = await (await ask("health")).json();
  for (const model of models) Object.assign(model, { progress: null }, health.models[model.id]);
  show();
  const { state, progress } = chosen();
  return state === "loading" ? (progress ?? null) : null;
}

/** Tell of a model that is being loaded until `signal` is aborted; errors are for others to tell of. */
export async function follow(tell, signal) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, LOOK));
    if (signal.aborted) return;
    const share = await look().catch(() => null);
    if (!signal.aborted && chosen().state !== "loaded") tell(chosen(), share);
  }
}

function show() {
  models.forEach(({ id, state }, index) => ($("model").options[index].textContent = `${id} (${WORDS[state]})`));
  const model = chosen();
  const waits = model && ["unloaded", "unloading"].includes(model.state);
  $("model-state").textContent = waits ? "This model is not in memory. The next speech waits until it is loaded." : "";
  $("model-state").hidden = !waits;
}
