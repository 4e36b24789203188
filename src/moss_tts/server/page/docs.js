// The schema as a page that asks nobody else for scripts.
const schema = await (await fetch("openapi.json")).json();

function element(tag, text = "", ...children) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.append(...children);
  return made;
}

function kind(field) {
  if (field.$ref) return field.$ref.split("/").pop();
  if (field.anyOf) return field.anyOf.filter((one) => one.type !== "null").map(kind).join(" or ");
  if (field.enum) return field.enum.join(" | ");
  if (field.const) return field.const;
  if (field.type === "array") return `list of ${kind(field.items)}`;
  const range = [field.minimum ?? field.exclusiveMinimum, field.maximum].filter((bound) => bound !== undefined);
  return range.length === 2 ? `${field.type} ${range.join("..")}` : field.type ?? "";
}

function fields(named) {
  const rows = Object.entries(named.properties).map(([name, field]) =>
    element("tr", "", element("th", name), element("td", kind(field)), element("td", field.description ?? "")),
  );
  return element("table", "", ...rows);
}

for (const [path, operations] of Object.entries(schema.paths)) {
  for (const [method, operation] of Object.entries(operations)) {
    const section = element("section", "", element("h2", `${method.toUpperCase()} ${path}`), element("p", operation.description));
    const ref = operation.requestBody?.content["application/json"]?.schema.$ref;
    if (ref) section.append(fields(schema.components.schemas[ref.split("/").pop()]));
    document.getElementById("operations").append(section);
  }
}
