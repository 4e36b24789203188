// The schema at /openapi.json as a page: operations, fields, examples, answers. It asks nobody but this server.
import { $, element, say } from "./dom.js";

const ADDRESS = "$SERVER";
const METHODS = ["get", "post", "delete"];

let schema = null;

// ------------------------------------------------------------------------------------------------- reading

/** What a schema refers to. */
function resolved(part) {
  if (!part?.$ref) return part ?? {};
  return schema.components.schemas[part.$ref.split("/").pop()];
}

const bounds = ({ minimum, exclusiveMinimum, maximum, maxLength, maxItems }) =>
  [
    minimum !== undefined && `from ${minimum}`,
    exclusiveMinimum !== undefined && `above ${exclusiveMinimum}`,
    maximum !== undefined && `to ${maximum}`,
    maxLength !== undefined && `of at most ${maxLength} characters`,
    maxItems !== undefined && `of at most ${maxItems}`,
  ].filter(Boolean).join(" ");

/** What a field may be, in words. */
function kind(field) {
  if (field.$ref) return kind(resolved(field));
  if (field.properties) return `object with ${Object.keys(field.properties).join(", ")}`;
  if (field.anyOf) return field.anyOf.filter(({ type }) => type !== "null").map(kind).join(", or ");
  if (field.enum) return field.enum.join(" | ");
  if ("const" in field) return String(field.const);
  const many = [field.type].flat().filter((type) => type !== "null").join(" or ");
  if (many === "array") return `list of ${kind(field.items)} ${bounds(field)}`.trim();
  return `${many} ${bounds(field)}`.trim();
}

// ------------------------------------------------------------------------------------------------- showing

const text = (tag, content, className = "") => element(tag, { textContent: content, className });

/** Words between backquotes are code. */
function prose(content, tag = "p") {
  const parts = content.split("`").map((part, index) => (index % 2 ? text("code", part) : part));
  return element(tag, {}, ...parts);
}

function field(name, described, isRequired) {
  const head = element("dt", {}, text("code", name));
  if (isRequired) head.append(text("span", "required", "required"));
  const about = element("dd", {}, text("span", kind(described), "kind"));
  if (described.default !== undefined && described.default !== null) {
    about.append(text("span", ` · without it: ${JSON.stringify(described.default)}`, "default"));
  }
  const row = element("div", { className: "field" }, head, about);
  if (described.description) row.append(prose(described.description, "dd"));
  return row;
}

function fields(title, rows) {
  return rows.length ? [text("h4", title), element("dl", { className: "fields" }, ...rows)] : [];
}

function parametersOf({ parameters = [] }) {
  const rows = parameters.map(({ name, required, schema: of, description }) =>
    field(name, { ...resolved(of), description }, required),
  );
  return fields("In the address", rows);
}

function bodyOf({ requestBody }) {
  if (!requestBody) return [];
  const kinds = Object.keys(requestBody.content);
  const body = resolved(Object.values(requestBody.content)[0].schema);
  const made = [text("h4", `Body: ${kinds.join(" or ")}`)];
  if (requestBody.description) made.push(prose(requestBody.description));
  if (body.anyOf) made.push(prose(`Required is one of ${body.anyOf.map(({ required }) => `\`${required[0]}\``).join(", ")}.`));
  return [...made, ...propertiesOf(body)];
}

function propertiesOf({ properties, required = [] }) {
  if (!properties) return [];
  const rows = Object.entries(properties).map(([name, of]) => field(name, of, required.includes(name)));
  const list = element("dl", { className: "fields" }, ...rows);
  if (rows.length < 15) return [list];
  return [element("details", { open: true }, text("summary", `${rows.length} fields`), list)];
}

function sample(title, content) {
  const copy = element("button", { type: "button", className: "small", textContent: "Copy" });
  copy.setAttribute("aria-label", `Copy: ${title}`);
  copy.addEventListener("click", () => copied(copy, content));
  const head = element("div", { className: "above" }, text("span", title), copy);
  return element("div", { className: "sample" }, head, text("pre", content));
}

async function copied(button, content) {
  try {
    await navigator.clipboard.writeText(content);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Cannot copy";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

function samplesOf(operation) {
  const here = new URL(".", location.href).href.replace(/\/$/, "");
  const commands = (operation["x-codeSamples"] ?? []).map(({ label, source }) =>
    sample(label, source.replaceAll(ADDRESS, here)),
  );
  const requests = Object.values(operation.requestBody?.content["application/json"]?.examples ?? {});
  const bodies = requests.map(({ summary, value }) => sample(summary, JSON.stringify(value, null, 2)));
  return [
    ...(commands.length ? [text("h4", "Commands"), ...commands] : []),
    ...(bodies.length ? [element("details", {}, text("summary", "Bodies of requests"), ...bodies)] : []),
  ];
}

function answersOf({ responses }) {
  const rows = Object.entries(responses).map(([status, { description, content = {} }]) => {
    const kinds = Object.keys(content).join(", ");
    const about = prose(description, "dd");
    return element("div", { className: "field" }, text("dt", status), about, text("dd", kinds, "kind"));
  });
  const examples = Object.entries(responses).flatMap(([status, { content = {} }]) => exampleOf(status, content));
  return [text("h4", "Answers"), element("dl", { className: "fields" }, ...rows), ...examples];
}

/** An example of each good answer; errors have one shape, which is shown once. */
function exampleOf(status, content) {
  const example = content["application/json"]?.example;
  return example ? [sample(`Answer ${status}`, JSON.stringify(example, null, 2))] : [];
}

const place = (method, path) => `${method}-${path}`.replace(/[^a-z0-9]+/gi, "-");

function shown({ method, path, operation }) {
  const name = element("h3", {}, text("span", method.toUpperCase(), `method ${method}`), text("code", path));
  const about = (operation.description ?? "").split("\n\n").map((part) => prose(part));
  const parts = [samplesOf(operation), parametersOf(operation), bodyOf(operation), answersOf(operation)].flat();
  const key = operation.security ? [prose("Needs the key of the server: `Authorization: Bearer KEY`.")] : [];
  return element("section", { id: place(method, path), className: "operation panel" }, name, ...about, ...key, ...parts);
}

function errorsShown() {
  const { properties, example } = schema.components.schemas.Error;
  const rows = Object.entries(properties.error.properties).map(([name, of]) => field(`error.${name}`, of, false));
  const list = element("dl", { className: "fields" }, ...rows);
  const about = prose("Every answer from 400 on is JSON of this shape.");
  return element("section", { className: "panel" }, about, list, sample("An error", JSON.stringify(example, null, 2)));
}

function show() {
  const all = Object.entries(schema.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => method in methods).map((method) => ({ method, path, operation: methods[method] })),
  );
  const tags = [...new Set(all.map(({ operation }) => operation.tags[0]))];
  for (const tag of tags) {
    const those = all.filter(({ operation }) => operation.tags[0] === tag);
    $("operations").append(text("h2", tag), ...those.map(shown));
  }
  $("operations").append(text("h2", "Errors"), errorsShown());
  const links = all.map(({ method, path }) => {
    const link = element("a", { href: `#${place(method, path)}` }, text("span", method.toUpperCase(), `method ${method}`), text("code", path));
    return element("li", {}, link);
  });
  $("contents").append(element("ul", {}, ...links));
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

try {
  schema = await (await fetch("openapi.json")).json();
  show();
} catch (error) {
  say(schema ? `The schema cannot be shown: ${error.message}` : "The server does not answer. Is it still running?", true);
}
