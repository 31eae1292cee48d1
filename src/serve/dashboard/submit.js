// Submit: a task by hand. The key is made when the form opens, so a second click, or a try after an outage, makes one
// task.

import { attr, el, show, template, text, partsOf } from "./dom.js";
import { call, get, newKey } from "./api.js";
import { indent, countdown } from "./format.js";
import { collect, commands, bodyOf, initial, plan, show as shown } from "./form.js";
import * as live from "./live.js";
import * as strip from "./strip.js";
import { go } from "./app.js";

const OPTIONS = { properties: {
  queue: { type: "string", description: "Another queue than the type's own" }, priority: { enum: ["high", "normal", "low"] },
  delay: { type: "string", description: "Such as 30s, 5m, 1h" }, max_attempts: { type: "integer" }, timeout: { type: "string", description: "For one attempt, such as 5m" },
} };

/** A field with its label, its hint and a place for what is wrong with it. */
function input(field, prefix, controls) {
  const id = prefix + field.pointer.replace(/[^\w]/g, "-");
  const wrong = el("p", { class: "wrong", id: `${id}-wrong`, hidden: true });
  const label = el("label", { for: id }, field.name, field.required ? "" : el("span", { class: "muted" }, " (optional)"));
  if (field.kind === "group") {
    return el("fieldset", { class: "group" }, el("legend", {}, field.name), ...field.fields.map((inner) => input(inner, prefix, controls)));
  }
  const about = { id, "aria-describedby": `${id}-hint ${id}-wrong`, required: field.required };
  let control;
  if (field.kind === "boolean") control = el("input", { ...about, type: "checkbox", required: false });
  else if (field.kind === "enum") control = el("select", about, field.required ? null : el("option", { value: "" }, "default"), ...field.schema.enum.filter((one) => one !== null).map((one) => el("option", {}, String(one))));
  else if (field.kind === "list" || field.kind === "json") control = el("textarea", { ...about, rows: 4, class: "mono", spellcheck: "false" });
  else control = el("input", { ...about, type: field.schema.format === "uri" ? "url" : "text", inputmode: field.kind === "text" ? null : "decimal", autocomplete: "off", spellcheck: "false", placeholder: field.schema.examples?.[0] ?? null });
  if (field.kind === "boolean") control.checked = field.schema.default === true;
  else control.value = initial(field);
  controls.set(field.pointer, { field, control, wrong });
  const { minimum, maximum } = field.schema;
  const range = [minimum === undefined ? "" : `from ${minimum}`, maximum === undefined ? "" : `to ${maximum}`].filter(Boolean).join(" ");
  const hint = el("span", { class: "hint", id: `${id}-hint` }, [field.about, range, field.kind === "list" ? "one per line" : ""].filter(Boolean).join(" · "));
  const json = field.kind === "json" ? el("details", {}, el("summary", { class: "hint" }, "Its schema"), el("pre", {}, indent(JSON.stringify(field.schema)))) : null;
  return el("div", { class: "field" }, label, control, wrong, hint, json);
}

export async function open({ main, id, params, title, isCurrent }) {
  const types = await get("/task-types");
  const from = params.get("from");
  const given = from ? (await call("GET", `/tasks/${from}/input`).catch(() => null))?.text : null;
  if (!isCurrent()) return null;
  const { root, part } = template("submit");
  title("Submit");
  const kind = types.find((type) => type.task_type === id) || (id ? null : types[0]);
  part.types.append(...types.map((type) => el("a", { href: `/ui/submit/${type.task_type}`, "aria-current": type === kind ? "page" : null }, el("b", {}, type.task_type), el("span", {}, type.description))));
  main.replaceChildren(root);
  strip.refetch().catch(() => {});
  live.begin({ url: () => "/events", event: ({ data }) => strip.take(JSON.parse(data)), refetch: () => strip.refetch() });
  if (!kind) {
    part.work.append(el("p", { class: "muted" }, id ? "There is no such type here." : "This server knows no task type."));
    return {};
  }

  const sheet = template("form");
  part.work.append(sheet.root);
  const form = partsOf(part.work);
  const fields = plan(kind.input_schema);
  const extras = plan(OPTIONS);
  const controls = new Map();
  const optionControls = new Map();
  const key = newKey();
  let asJson = false;
  let busy = false;
  text(form.name, kind.task_type);
  text(form.about, kind.description);
  form.fields.append(...fields.map((field) => input(field, "f", controls)));
  form.options.append(...extras.map((field) => input(field, "o", optionControls)));
  const area = part.work.querySelector("#json");
  const areaWrong = part.work.querySelector("#json-wrong");
  const valueIn = (map) => (field) => {
    const { control } = map.get(field.pointer);
    return control.type === "checkbox" ? control.checked : control.value;
  };

  /** The input and the options as they stand, as JSON text. */
  function standing() {
    const options = collect(extras, valueIn(optionControls));
    if (!asJson) return { input: collect(fields, valueIn(controls)), options };
    try {
      const value = JSON.parse(area.value);
      if (!value || typeof value !== "object" || Array.isArray(value)) throw new Error("must be an object");
      return { input: { text: area.value, errors: [] }, options };
    } catch (error) {
      return { input: { text: area.value, errors: [{ pointer: "", detail: error.message }] }, options };
    }
  }

  function fill(value) {
    for (const { field, control } of controls.values()) {
      const found = field.pointer.slice(1).split("/").reduce((at, name) => at?.[name.replace(/~1/g, "/").replace(/~0/g, "~")], value);
      if (control.type === "checkbox") control.checked = found === true;
      else control.value = found === undefined || found === null ? "" : shown(field, found);
    }
  }

  function preview() {
    const { input, options } = standing();
    if (input.errors.length && asJson) return;
    const said = commands(location.origin, kind.task_type, input.text, options.text);
    text(form.curl, said.curl);
    text(form.app, said.app);
  }

  function tell(errors) {
    let first = null;
    for (const { control, wrong } of [...controls.values(), ...optionControls.values()]) {
      show(wrong, false);
      attr(control, "aria-invalid", null);
    }
    show(areaWrong, false);
    for (const error of errors) {
      const pointer = error.pointer.replace(/^\/options/, "");
      const map = error.pointer.startsWith("/options") ? optionControls : controls;
      // A part of a field is told at the field.
      const found = [...map.entries()].filter(([name]) => pointer === name || pointer.startsWith(`${name}/`)).pop()?.[1];
      const { control, wrong } = !asJson && found ? found : { control: asJson ? area : null, wrong: asJson ? areaWrong : form.problem };
      text(wrong, found && !asJson ? error.detail : `${error.pointer || "The input"}: ${error.detail}`);
      show(wrong, true);
      if (control) attr(control, "aria-invalid", "true");
      first ||= control;
    }
    first?.closest("details")?.setAttribute("open", "");
    first?.focus();
  }

  async function submit() {
    if (busy) return;
    const { input, options } = standing();
    show(form.problem, false);
    const wrong = [...input.errors, ...options.errors.map((error) => ({ ...error, pointer: `/options${error.pointer}` }))];
    tell(wrong);
    if (wrong.length) return;
    busy = form.go.disabled = true;
    try {
      const { data } = await call("POST", "/tasks", { body: bodyOf(kind.task_type, input.text, options.text), key });
      return go(`/ui/tasks/${data.task_id}`);
    } catch (failure) {
      if (failure.status === 503 || failure.status === 429 || failure.status === 0) return later(failure);
      text(form.problem, failure.words);
      show(form.problem, true);
      tell(failure.problem.errors || []);
    }
    busy = form.go.disabled = false;
  }

  /** Tries again with the same key: it stays one task. */
  function later(failure) {
    const at = Date.now() + 1000 * (failure.after || 2);
    const wait = setInterval(() => {
      if (!isCurrent()) return clearInterval(wait);
      text(form.wait, `${failure.message} Trying again in ${countdown(at - Date.now())}.`);
      if (Date.now() < at) return;
      clearInterval(wait);
      text(form.wait, "");
      busy = false;
      submit();
    }, 250);
  }

  if (given) {
    fill(JSON.parse(given));
    area.value = indent(given);
  }
  preview();
  part.work.addEventListener("input", preview);
  return {
    act: {
      submit,
      as(button) {
        const wanted = button.dataset.as === "json";
        if (wanted === asJson) return;
        const { input } = standing();
        if (asJson && input.errors.length) return tell(input.errors);
        if (wanted) area.value = indent(input.text);
        else fill(JSON.parse(input.text));
        asJson = wanted;
        show(form.fields, !asJson);
        show(form.text, asJson);
        for (const tab of part.work.querySelectorAll("[role=tab]")) attr(tab, "aria-selected", String((tab.dataset.as === "json") === asJson));
        preview();
      },
    },
  };
}
