// The API's page. Everything that it shows comes from openapi.json and is put into the page as text nodes.
'use strict';

let api;
const METHODS = ['get', 'post', 'put', 'patch', 'delete'];
/** Schemas nest deeper than anybody reads. */
const DEEPEST = 6;

/** An element with attributes and children; strings become text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== ''));
  return element;
}

/** What a JSON pointer in this document leads to. */
function at(pointer, whole = api) {
  const steps = pointer.replace(/^#?\/?/, '').split('/').filter((step) => step !== '');
  return steps.reduce((place, step) => place?.[decodeURIComponent(step).replace(/~1/g, '/').replace(/~0/g, '~')], whole);
}

/** The object itself where it is a reference; words beside the reference win. */
function resolve(object) {
  if (!object || typeof object !== 'object' || !object.$ref) return object;
  const { $ref, ...beside } = object;
  return { ...resolve(at($ref)), ...beside, refersTo: $ref.split('/').pop() };
}

/** The little of Markdown that descriptions use: paragraphs, lists and code. */
function prose(text = '') {
  const words = (line) => line.split(/`([^`]*)`/).map((part, index) => (index % 2 ? make('code', {}, part) : part));
  return text.trim().split(/\n\s*\n/).filter(Boolean).map((block) => {
    const lines = block.split('\n');
    if (lines.every((line) => line.startsWith('- '))) {
      return make('ul', {}, lines.map((line) => make('li', {}, words(line.slice(2)))));
    }
    return make('p', {}, words(lines.join(' ')));
  });
}

const pretty = (value) => JSON.stringify(value, null, 2);

/** A schema in a few words: its type, and what it allows. */
function typeOf(schema, depth = 0) {
  const s = resolve(schema);
  if (s === true || s === undefined || depth > 3) return 'anything';
  if (s.refersTo && s.type !== 'string') return s.refersTo;
  if (s.const !== undefined) return JSON.stringify(s.const);
  if (s.enum) return s.enum.map((value) => JSON.stringify(value)).join(' | ');
  const forms = s.oneOf ?? s.anyOf;
  if (forms) return [...new Set(forms.map((form) => typeOf(form, depth + 1)))].join(' | ');
  const type = [s.type ?? 'anything'].flat().map((one) => (one === 'array' ? `array of ${typeOf(s.items, depth + 1)}` : one));
  return type.join(' | ') + (s.format ? ` (${s.format})` : '');
}

function limitsOf(schema) {
  const s = resolve(schema);
  const words = {
    minimum: 'at least', maximum: 'at most', minLength: 'characters, at least', maxLength: 'characters, at most',
    minItems: 'elements, at least', maxItems: 'elements, at most', pattern: 'matches', default: 'default',
  };
  return Object.entries(words)
    .filter(([key]) => s?.[key] !== undefined)
    .map(([key, word]) => `${word} ${typeof s[key] === 'string' ? s[key] : JSON.stringify(s[key])}`)
    .join(', ');
}

/** A schema as a list of its members, each opened on demand. */
function schemaView(schema, depth = 0) {
  const s = resolve(schema);
  if (!s || s === true || depth > DEEPEST) return make('p', { class: 'type' }, 'anything');
  const parts = [];
  if (s.description) parts.push(...prose(s.description));
  const forms = s.oneOf ?? s.anyOf;
  const wordy = forms?.every((form) => form.const !== undefined || form.enum);
  if (wordy) {
    parts.push(make('ul', {}, forms.map((form) =>
      make('li', {}, make('code', {}, typeOf(form)), form.description ? ` ${form.description}` : ''))));
  } else if (forms) {
    parts.push(...forms.filter((form) => form.type !== 'null').map((form) =>
      opened(resolve(form).title ?? typeOf(form), () => schemaView(form, depth + 1))));
  }
  if (s.type === 'array' || s.items) {
    parts.push(opened(`each element: ${typeOf(s.items)}`, () => schemaView(s.items, depth + 1)));
  }
  const members = Object.entries(s.properties ?? {});
  if (members.length) {
    parts.push(make('dl', { class: 'members' }, members.flatMap(([name, member]) => memberView(name, member, s, depth))));
  }
  if (!parts.length || (!forms && !s.items && !members.length)) {
    parts.push(make('p', { class: 'type' }, [typeOf(s), limitsOf(s)].filter(Boolean).join(', ')));
  }
  return make('div', { class: 'schema' }, parts);
}

function memberView(name, member, parent, depth) {
  const m = resolve(member);
  const inner = m?.properties || m?.items || m?.oneOf || m?.anyOf;
  const facts = [typeOf(member), limitsOf(member)].filter(Boolean).join(', ');
  return [
    make('dt', {}, make('code', {}, name), parent.required?.includes(name) ? make('span', { class: 'needed' }, 'always') : ''),
    make('dd', {},
      make('span', { class: 'type' }, facts),
      m?.description ? prose(m.description) : '',
      inner ? opened('more', () => schemaView({ ...m, description: undefined }, depth + 1)) : ''),
  ];
}

/** Something that is made when it is opened for the first time. */
function opened(title, inside, open = false) {
  const box = make('details', { open }, make('summary', {}, title));
  const fill = () => { if (box.open && box.children.length === 1) box.append(inside()); };
  box.addEventListener('toggle', fill);
  fill();
  return box;
}

function examplesOf(media) {
  return Object.entries(media?.examples ?? {}).map(([name, example]) => [name, resolve(example).value]);
}

function answersView(operation) {
  return Object.entries(operation.responses).map(([status, reference]) => {
    const answer = resolve(reference);
    const [mediaType, media] = Object.entries(answer.content ?? {})[0] ?? [];
    const headers = Object.entries(answer.headers ?? {}).map(([name, header]) => [name, resolve(header)]);
    const title = make('span', { class: `status s${status[0]}` }, status);
    const box = opened('', () => make('div', {},
      headers.length ? make('dl', { class: 'members' }, headers.flatMap(([name, header]) => [
        make('dt', {}, make('code', {}, name), header.required ? make('span', { class: 'needed' }, 'always') : ''),
        make('dd', {}, header.description ?? ''),
      ])) : '',
      mediaType ? make('p', {}, make('code', {}, mediaType)) : make('p', {}, 'No body.'),
      media?.schema ? opened(`schema: ${typeOf(media.schema)}`, () => schemaView(media.schema)) : '',
      examplesOf(media).map(([name, value]) => opened(`example: ${name}`, () => make('pre', {}, pretty(value)))),
    ));
    box.firstChild.append(title, make('span', { class: 'words' }, prose(answer.description).flatMap((p) => [...p.childNodes])));
    return box;
  });
}

/** Values of the parameters and the body of an operation, as a person fills them in; and what came back. */
function trial(method, path, operation) {
  const parameters = (operation.parameters ?? []).map(resolve);
  const bodyMedia = operation.requestBody?.content['application/json'];
  const fields = new Map();
  const rows = parameters.map((parameter) => {
    const field = make('input', {
      id: `${operation.operationId}.${parameter.name}`, name: parameter.name, autocomplete: 'off',
      placeholder: parameter.schema.type === 'object' ? `${parameter.name}.key=value` : typeOf(parameter.schema),
    });
    fields.set(parameter, field);
    return [
      make('label', { for: field.id }, make('code', {}, parameter.name), ` ${parameter.in}`,
        parameter.required ? make('span', { class: 'needed' }, 'needed') : ''),
      make('div', {}, field, prose(parameter.description)),
    ];
  });
  const body = bodyMedia && make('textarea', { rows: 12, spellcheck: 'false', 'aria-label': 'Body' });
  const examples = examplesOf(bodyMedia);
  const choice = body && make('select', { 'aria-label': 'Example', onchange: () => {
    body.value = pretty(examples[choice.selectedIndex][1]);
  } }, examples.map(([name]) => make('option', {}, name)));
  if (body && examples.length) body.value = pretty(examples[0][1]);

  const output = make('div', { class: 'output', 'aria-live': 'polite' });
  const stop = make('button', { type: 'button', hidden: true }, 'Stop');
  const form = make('form', { onsubmit: (event) => {
    event.preventDefault();
    send(requestOf(), output, stop, operation);
  } },
    rows.length ? make('div', { class: 'parameters' }, rows.flat()) : '',
    body ? make('div', { class: 'body' }, make('p', {}, 'Body ', choice), body) : '',
    make('p', {}, make('button', { type: 'submit' }, `Send ${method.toUpperCase()}`), stop),
  );

  function requestOf() {
    let url = path.slice(1);
    const query = [];
    const headers = {};
    for (const [parameter, field] of fields) {
      const value = field.value;
      if (parameter.in === 'path') url = url.replace(`{${parameter.name}}`, encodeURIComponent(value));
      else if (value === '') continue;
      else if (parameter.in === 'header') headers[parameter.name] = value;
      else if (parameter.schema.type === 'object') {
        for (const pair of value.split('&')) query.push(pair.split('=').map(encodeURIComponent).join('='));
      } else query.push(`${parameter.name}=${encodeURIComponent(value)}`);
    }
    if (body) headers['Content-Type'] = 'application/json';
    const token = document.getElementById('token')?.value;
    if (token) headers.Authorization = `Bearer ${token}`;
    return { method: method.toUpperCase(), url: url + (query.length ? `?${query.join('&')}` : ''), headers, body: body?.value };
  }
  return [form, output];
}

/** The same request for a shell. The token is left out: what is shown is copied. */
function curl({ method, url, headers, body }) {
  const quoted = (text) => `'${text.replace(/'/g, `'\\''`)}'`;
  const parts = ['curl -i'];
  if (method !== 'GET') parts.push(`-X ${method}`);
  for (const [name, value] of Object.entries(headers)) {
    parts.push(`-H ${name === 'Authorization' ? '"Authorization: Bearer $TOKEN"' : quoted(`${name}: ${value}`)}`);
  }
  if (body !== undefined) parts.push(`-d ${quoted(body)}`);
  return [...parts, quoted(new URL(url, document.baseURI).href)].join(' ');
}

async function send(request, output, stop, operation) {
  const aborter = new AbortController();
  stop.hidden = false;
  stop.onclick = () => aborter.abort();
  output.replaceChildren(make('pre', { class: 'curl' }, curl(request)), make('p', {}, 'Waiting …'));
  const began = performance.now();
  try {
    const answer = await fetch(request.url, { ...request, signal: aborter.signal, redirect: 'manual', cache: 'no-store' });
    const took = Math.round(performance.now() - began);
    const head = make('p', {}, make('span', { class: `status s${String(answer.status)[0]}` }, `${answer.status}`),
      ` ${answer.statusText}, ${took} ms`);
    const headers = make('pre', {}, [...answer.headers].map(([name, value]) => `${name}: ${value}`).join('\n'));
    const text = make('pre', { class: 'answer' });
    output.replaceChildren(make('pre', { class: 'curl' }, curl(request)), head,
      make('details', {}, make('summary', {}, 'Headers'), headers), text);
    const whole = await readInto(answer, text);
    if (/\bjson\b/.test(answer.headers.get('content-type') ?? '')) {
      const value = JSON.parse(whole);
      text.textContent = pretty(value);
      output.append(...linksOf(operation, answer.status, value));
    }
    if (whole === '') text.remove();
  } catch (error) {
    output.append(make('p', { class: 'failed' }, aborter.signal.aborted ? 'Stopped.' : `No answer: ${error.message}`));
  } finally {
    stop.hidden = true;
  }
}

/** Shows a body as it comes, which for a stream is the point of it. */
async function readInto(answer, place) {
  if (!answer.body) return '';
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let whole = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return whole;
    whole += value;
    place.textContent = whole;
  }
}

/** Buttons that lead on: to the operations that the document links with this answer, its ids filled in. */
function linksOf(operation, status, value) {
  const links = Object.values(resolve(operation.responses[status])?.links ?? {});
  const buttons = links.flatMap((link) => {
    const filled = Object.entries(link.parameters ?? {}).map(([name, place]) =>
      [name, at(place.replace('$response.body', ''), value)]);
    if (!filled.length || filled.some(([, found]) => found === undefined)) return [];
    return make('button', { type: 'button', onclick: () => {
      location.hash = link.operationId;
      show();
      for (const [name, found] of filled) document.getElementById(`${link.operationId}.${name}`).value = found;
      document.getElementById(link.operationId).querySelector('button[type=submit]').focus();
    } }, link.operationId);
  });
  return buttons.length ? [make('p', { class: 'links' }, 'Go on with ', buttons)] : [];
}

function operationView(method, path, operation) {
  return make('section', { id: operation.operationId },
    make('h2', {}, make('span', { class: `method ${method}` }, method.toUpperCase()), ' ', make('code', {}, path)),
    make('p', { class: 'lead' }, operation.summary),
    prose(operation.description),
    make('h3', {}, 'Try it'), trial(method, path, operation),
    operation.requestBody ? [make('h3', {}, 'Body'),
      schemaView(operation.requestBody.content['application/json'].schema)] : '',
    make('h3', {}, 'Answers'), answersView(operation));
}

function operations() {
  return Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ method, path, operation: item[method] })));
}

/** Shows what the address names: one operation, or the beginning. */
function show() {
  const wanted = location.hash.slice(1);
  const found = operations().find(({ operation }) => operation.operationId === wanted);
  const main = document.getElementById('main');
  if (found) {
    // What was filled in stays while the page is open.
    if (!show.made.has(wanted)) show.made.set(wanted, operationView(found.method, found.path, found.operation));
    main.replaceChildren(show.made.get(wanted));
  } else {
    main.replaceChildren(make('section', {}, prose(api.info.description),
      make('h3', {}, 'Problems'), make('dl', { class: 'members' },
        Object.entries(api.components.examples).flatMap(([code, example]) => [
          make('dt', {}, make('code', {}, code), make('span', { class: `status s${String(example.value.status)[0]}` }, `${example.value.status}`)),
          make('dd', {}, example.summary)])),
      make('p', {}, 'The document itself: ', make('a', { href: 'openapi.json' }, 'openapi.json'))));
  }
  for (const link of document.querySelectorAll('nav a')) {
    if (link.hash.slice(1) === wanted) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  window.scrollTo(0, 0);
}
show.made = new Map();

function contents() {
  const words = document.getElementById('filter').value.toLowerCase();
  const groups = api.tags.map((tag) => {
    const links = operations()
      .filter(({ operation }) => operation.tags.includes(tag.name))
      .filter(({ method, path, operation }) => `${method} ${path} ${operation.summary}`.toLowerCase().includes(words))
      .map(({ method, path, operation }) => make('li', {}, make('a', { href: `#${operation.operationId}`, title: operation.summary },
        make('span', { class: `method ${method}` }, method.toUpperCase()), make('span', {}, path))));
    return links.length ? [make('h2', {}, tag.name), make('ul', {}, links)] : [];
  });
  document.getElementById('contents').replaceChildren(...groups.flat());
}

async function start() {
  try {
    const answer = await fetch('openapi.json');
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    api = await answer.json();
  } catch (error) {
    document.getElementById('state').textContent = `openapi.json cannot be read: ${error.message}. Reload the page to try again.`;
    return;
  }
  document.title = `${api.info.title} API`;
  document.getElementById('title').replaceChildren(make('a', { href: '#' }, api.info.title), make('small', {}, ` ${api.info.version}`));
  document.getElementById('summary').textContent = api.info.summary;
  if (api.components.securitySchemes) {
    document.getElementById('filter').before(make('input', {
      id: 'token', type: 'password', placeholder: 'API key, for requests from here', 'aria-label': 'API key', autocomplete: 'off',
    }));
  }
  contents();
  show();
  document.getElementById('filter').addEventListener('input', () => { contents(); });
  window.addEventListener('hashchange', show);
}

start();
