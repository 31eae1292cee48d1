// Sse: reading an event stream with fetch, which tells the status, and shows the pings that EventSource hides.

/** Nothing at all for this long is a dead connection: the server pings every 15 s. */
const SILENCE = 20000;

/**
 * A parser of text/event-stream (WHATWG HTML, 9.2): give it text as it comes.
 * @param {{event?: (e: {name: string, data: string, id: string|null}) => void, retry?: (ms: number) => void}} on
 */
export function parser(on) {
  let rest = "";
  let name = "";
  let data = null;
  let id = null;
  const line = (text) => {
    if (text === "") {
      if (data !== null) on.event?.({ name, data, id });
      name = "";
      data = id = null;
      return;
    }
    const colon = text.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + 1).replace(/^ /, "");
    if (field === "data") data = data === null ? value : data + "\n" + value;
    else if (field === "event") name = value;
    else if (field === "id" && !value.includes("\0")) id = value;
    else if (field === "retry" && /^\d+$/.test(value)) on.retry?.(Number(value));
  };
  return (chunk) => {
    rest += chunk;
    for (;;) {
      const end = rest.search(/[\r\n]/);
      // A CR at the very end may be half of a CR LF.
      if (end < 0 || (rest[end] === "\r" && end === rest.length - 1)) return;
      line(rest.slice(0, end));
      rest = rest.slice(end + (rest.startsWith("\r\n", end) ? 2 : 1));
    }
  };
}

/** How long to wait before the nth try in a row: 0.5 s to 10 s, with jitter. */
export const backoff = (tries) => Math.min(500 * 2 ** (tries - 1), 10000) * (0.5 + Math.random() / 2);

/**
 * Follows a stream until told to stop, the server says that there is nothing more (204), or it refuses for good.
 * @param {{url: () => string, event: (e: any) => void, open?: () => (void|Promise<void>),
 *          lost?: (tries: number, wait: number) => void, end?: (status: number) => void, lastId?: string|null}} options
 * @returns {{stop: () => void, now: () => void}}
 */
export function follow(options) {
  let stopped = false;
  let lastId = options.lastId ?? null;
  let tries = 0;
  let abort = new AbortController();
  let wake = () => {};

  async function once() {
    let heard = false;
    let retry = 0;
    abort = new AbortController();
    let watchdog;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), SILENCE);
    };
    alive();
    try {
      const headers = { Accept: "text/event-stream" };
      if (lastId !== null) headers["Last-Event-ID"] = lastId;
      const response = await fetch(options.url(), { headers, signal: abort.signal, cache: "no-store" });
      if (response.status === 204) return { end: 204 };
      if ([400, 401, 403, 404, 410].includes(response.status)) return { end: response.status };
      if (!response.ok) return { heard, retry: 1000 * Number(response.headers.get("retry-after") || 0) };
      const push = parser({
        retry: (ms) => (retry = ms),
        event: (event) => {
          if (stopped) return;
          if (!heard) {
            heard = true;
            tries = 0;
            options.open?.();
          }
          if (event.id !== null) lastId = event.id;
          options.event(event);
        },
      });
      const reader = response.body.getReader();
      const decoder = new TextDecoder();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return { heard, retry: heard ? 0 : retry };
        alive();
        push(decoder.decode(value, { stream: true }));
      }
    } catch {
      return { heard, retry: 0 };
    } finally {
      clearTimeout(watchdog);
    }
  }

  (async () => {
    while (!stopped) {
      const outcome = await once();
      if (stopped) return;
      if (outcome.end) return options.end?.(outcome.end);
      tries += 1;
      const wait = Math.max(outcome.retry || 0, backoff(tries));
      options.lost?.(tries, wait);
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, wait);
      });
    }
  })();

  return {
    stop() {
      stopped = true;
      abort.abort();
      wake();
    },
    now: () => wake(),
  };
}
