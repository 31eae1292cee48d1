// Dom: nodes without markup. Text goes in by textContent only, and only what has changed is written, so focus,
// selection and scroll survive every update.

/** The first node that matches. */
export const $ = (selector) => document.querySelector(selector);
/** All that match. */
export const all = (selector) => document.querySelectorAll(selector);

/** A node. Properties that begin with "data-", "aria-" and the like are attributes; children are nodes or text. */
export function el(name, props, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.className = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A node of a drawing. */
export function drawn(name, props, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(props)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** The one symbol of the shell with this name. */
export const icon = (name) => drawn("svg", { "aria-hidden": true }, drawn("use", { href: `#s-${name}` }));

/** Foreign text, in a direction of its own. */
export const bdi = (text, name) => el("bdi", { dir: "auto", class: name }, text === undefined ? null : String(text));

/** Writes text where it differs. */
export function text(node, value) {
  const wanted = value === null || value === undefined ? "" : String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Writes an attribute where it differs; null takes it away. */
export function attr(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Shows or hides. */
export function show(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

/** A template of the shell in a node of its own, and its marked parts by name. */
export function template(name) {
  const root = el("div", {}, $(`#t-${name}`).content.cloneNode(true));
  return { root, part: partsOf(root) };
}

/** The nodes marked with data-part, by name. */
export function partsOf(root) {
  const part = {};
  for (const node of root.querySelectorAll("[data-part]")) part[node.dataset.part] = node;
  return part;
}

/**
 * A list whose nodes belong to keys: nodes are reused, and moved only when the order changes.
 * @template T
 * @param {Element} parent @param {T[]} items
 * @param {(item: T) => string} key @param {(item: T) => {node: Element, update: (item: T) => void}} make
 */
export function keyed(parent, items, key, make) {
  const views = parent.views || (parent.views = new Map());
  const wanted = new Set(items.map(key));
  for (const [name, view] of views) {
    if (!wanted.has(name)) {
      view.node.remove();
      views.delete(name);
    }
  }
  let at = parent.firstElementChild;
  for (const item of items) {
    let view = views.get(key(item));
    if (!view) views.set(key(item), (view = make(item)));
    view.update(item);
    if (view.node === at) at = at.nextElementSibling;
    else parent.insertBefore(view.node, at);
  }
  return views;
}

/** A badge: shape, word, colour. */
export function badge(status, big) {
  const word = el("span");
  const node = el("span", { class: big ? "badge big" : "badge" }, icon(status), word);
  const update = (now) => {
    attr(node, "data-status", now);
    text(word, now);
    attr(node.querySelector("use"), "href", `#s-${now}`);
  };
  update(status);
  return { node, update };
}

/** Copies text. On plain HTTP away from localhost there is no clipboard: then a field with the text is selected. */
export async function copy(value) {
  try {
    await navigator.clipboard.writeText(value);
    return true;
  } catch {
    const field = el("textarea", { class: "unseen", "aria-label": "Copied text" });
    field.value = value;
    ($("dialog[open]") || document.body).append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
