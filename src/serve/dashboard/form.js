// Form: from a JSON Schema to fields and back to JSON text. Pure, so that its tests need no page. A number keeps the
// digits that were typed.

const SCALARS = ["string", "number", "integer", "boolean"];
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

/** The schema itself, without its references and without "or null". */
function plain(schema, root) {
  let found = schema;
  for (let n = 0; n < 8 && found.$ref; n++) {
    const target = found.$ref.replace(/^#\//, "").split("/").reduce((at, name) => at?.[name], root);
    found = { ...(target || {}), ...found, $ref: target?.$ref };
  }
  const forms = (found.anyOf || found.oneOf || []).filter((form) => form.type !== "null");
  if (forms.length === 1) found = { ...found, ...plain(forms[0], root), anyOf: undefined, oneOf: undefined };
  if (Array.isArray(found.type)) {
    const types = found.type.filter((type) => type !== "null");
    found = { ...found, type: types.length === 1 ? types[0] : types };
  }
  return found;
}

/**
 * What to ask for.
 * @returns {{name: string, kind: "text"|"number"|"integer"|"boolean"|"enum"|"list"|"group"|"json", required: boolean,
 *   about: string, schema: any, of?: string, fields?: any[], pointer: string}[]}
 */
export function plan(schema, root = schema, level = 0, at = "") {
  const required = new Set(schema.required || []);
  const fields = Object.entries(schema.properties || {}).map(([name, raw]) => {
    const own = plain(raw, root);
    const field = { name, required: required.has(name), about: own.description || "", schema: own, kind: "json", pointer: `${at}/${name.replace(/~/g, "~0").replace(/\//g, "~1")}` };
    if (own.enum && own.enum.every((value) => value === null || typeof value !== "object")) field.kind = "enum";
    else if (SCALARS.includes(own.type)) field.kind = own.type === "string" ? "text" : own.type;
    else if (own.type === "object" && own.properties && level === 0) Object.assign(field, { kind: "group", fields: plan(own, root, 1, field.pointer) });
    else if (own.type === "array" && own.items) {
      const items = plain(own.items, root);
      if (SCALARS.includes(items.type) && !items.enum) Object.assign(field, { kind: "list", of: items.type });
    }
    return field;
  });
  // What must be there comes first.
  return fields.sort((a, b) => b.required - a.required);
}

/** What a field holds at first: its default or its example, as text. */
export function initial(field) {
  const value = field.schema.default ?? (field.required ? field.schema.examples?.[0] : undefined);
  return value === undefined || value === null ? "" : show(field, value);
}

/** A value as its field shows it. */
export function show(field, value) {
  if (field.kind === "list" && Array.isArray(value)) return value.join("\n");
  if (field.kind === "json") return JSON.stringify(value);
  return String(value);
}

/** One value as JSON text; undefined when it is left out; throws a sentence when it cannot be. */
function written(kind, value, field) {
  const said = String(value ?? "").trim();
  if (kind === "boolean") return value === true || said === "true" ? "true" : "false";
  if (kind === "text" || kind === "string") return JSON.stringify(String(value));
  if (kind === "enum") return JSON.stringify(field.schema.enum.find((one) => String(one) === said));
  if (kind === "number" || kind === "integer") {
    if (!NUMBER.test(said) || (kind === "integer" && /[.eE]/.test(said))) throw new Error(kind === "integer" ? "must be a whole number" : "must be a number");
    return said;
  }
  try {
    JSON.parse(said);
  } catch {
    throw new Error("is not JSON");
  }
  return said;
}

/**
 * JSON text from what was filled in.
 * @param {any[]} fields @param {(field: any) => string|boolean} read
 * @returns {{text: string, errors: {pointer: string, detail: string}[]}}
 */
export function collect(fields, read) {
  const errors = [];
  const members = [];
  for (const field of fields) {
    const value = field.kind === "group" ? "" : read(field);
    const isEmpty = typeof value === "string" && value.trim() === "" && field.kind !== "group";
    if (isEmpty && !field.required) continue;
    try {
      let json;
      if (field.kind === "group") {
        const isBare = field.fields.every((one) => String(read(one)).trim() === "" || read(one) === false);
        if (isBare && !field.required) continue;
        const inner = collect(field.fields, read);
        errors.push(...inner.errors);
        json = inner.text;
      } else if (isEmpty && field.kind !== "text") throw new Error("is missing");
      else if (field.kind === "list") json = `[${String(value).split(/[\n,]/).map((one) => one.trim()).filter(Boolean).map((one) => written(field.of, one, field)).join(", ")}]`;
      else if (isEmpty) throw new Error("is missing");
      else json = written(field.kind, value, field);
      members.push(`${JSON.stringify(field.name)}: ${json}`);
    } catch (error) {
      errors.push({ pointer: field.pointer, detail: error.message });
    }
  }
  return { text: `{${members.join(", ")}}`, errors };
}

/** A word as a shell takes it. */
export const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`);

/** The body of a submit: the type's input with the three reserved keys in front. Both are JSON texts. */
export function bodyOf(type, input, options) {
  const rest = input.trim().replace(/^\{\s*/, "").replace(/\s*\}$/, "");
  const parts = [`"task_type": ${JSON.stringify(type)}`];
  if (rest) parts.push(rest);
  if (options && options !== "{}") parts.push(`"options": ${options}`);
  return `{${parts.join(", ")}}`;
}

/** The same as two commands to copy. */
export function commands(origin, type, input, options) {
  const flags = Object.entries(JSON.parse(options || "{}")).map(([name, value]) => ` --${{ timeout: "task-timeout", max_attempts: "max-attempts" }[name] || name} ${quoted(String(value))}`);
  return {
    curl: `curl ${quoted(`${origin}/tasks`)} -H 'content-type: application/json' \\\n  -d ${quoted(bodyOf(type, input, options))}`,
    app: `app submit ${quoted(type)} --input -${flags.join("")} <<'JSON'\n${input}\nJSON`,
  };
}
