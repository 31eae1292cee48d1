// Store: tasks by id, the newest version of each. Views subscribe; however many frames come, they are told at most four
// times a second.

/** Between two renderings, in milliseconds. */
const PAUSE = 250;

/**
 * @param {{frame?: (run: () => void) => void, now?: () => number, later?: (run: () => void, ms: number) => void}} [time]
 *   replaced in tests
 */
export function makeStore(time = {}) {
  const frame = time.frame || ((run) => (document.hidden ? setTimeout(run, PAUSE) : requestAnimationFrame(run)));
  const clock = time.now || (() => performance.now());
  const later = time.later || ((run, ms) => setTimeout(run, ms));
  const tasks = new Map();
  const views = new Set();
  const changed = new Set();
  let waits = false;
  let last = -PAUSE;

  function flush() {
    waits = false;
    last = clock();
    const ids = new Set(changed);
    changed.clear();
    for (const view of [...views]) view(ids);
  }

  /** Asks for a rendering soon. */
  function touch() {
    if (waits) return;
    waits = true;
    const wait = last + PAUSE - clock();
    if (wait > 0) later(() => frame(flush), wait);
    else frame(flush);
  }

  return {
    /** Takes a task, unless a newer version is known. @returns {boolean} whether it was taken */
    apply(task) {
      const known = tasks.get(task.task_id);
      if (known && known.version > task.version) return false;
      tasks.set(task.task_id, task);
      changed.add(task.task_id);
      touch();
      return true;
    },
    get: (id) => tasks.get(id),
    /** @param {(ids: Set<string>) => void} view told which tasks have changed @returns {() => void} ends it */
    subscribe(view) {
      views.add(view);
      return () => views.delete(view);
    },
    touch,
  };
}
