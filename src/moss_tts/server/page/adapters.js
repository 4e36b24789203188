// The LoRA adapters that the server has: a weight for each.
import { $, element } from "./dom.js";

let usual = {};

/** Show a field for the weight of each adapter, with the server's own weights where none is given. */
export function offerAdapters(names, weights) {
  usual = weights;
  $("adapters").hidden = names.length === 0;
  $("weights").replaceChildren(...names.map(weightField));
}

function weightField(name) {
  const id = `adapter-${encodeURIComponent(name)}`;
  const label = element("label", { htmlFor: id, textContent: name });
  const field = element("input", { id, name: id, type: "number", min: -100, max: 100, step: "any", inputMode: "decimal" });
  field.placeholder = usual[name] ?? 0;
  field.dataset.adapter = name;
  return element("div", {}, label, field);
}

/** The weights for a request; null leaves them to the server and the voice. */
export function wantedWeights() {
  const given = [...$("weights").querySelectorAll("[data-adapter]")].filter((field) => field.value !== "");
  if (!given.length) return null;
  return { ...usual, ...Object.fromEntries(given.map((field) => [field.dataset.adapter, Number(field.value)])) };
}
