// Boot: sets the theme before the first paint, asks for the list that most begin with, then loads the program. During a
// rollout the folder in the page may belong to another version than the server that answers: then the page is loaded
// again, later and later.
(() => {
  const root = document.documentElement;
  try {
    const theme = localStorage.getItem("theme");
    if (theme) root.dataset.theme = theme;
    // The list is on its way while the program is: api.js takes it, with the time when it came. Without an answer the
    // program asks once more, and tells what is wrong.
    if (location.pathname + location.search === "/ui/tasks") {
      window.early = fetch("/tasks?limit=50", { cache: "no-store", signal: AbortSignal.timeout(15000) })
        .then(async (response) => Object.assign(new Response(await response.text(), response), { at: Date.now() })).catch(() => null);
    }
  } catch { /* storage may be forbidden: the system's theme it is, and the program asks */ }
  import(root.dataset.assets + "/app.js").then((app) => {
    delete sessionStorage.tries;
    const start = () => app.start();
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
    else start();
  }).catch((error) => {
    console.error(error);
    const count = Number(sessionStorage.tries || 0);
    sessionStorage.tries = count + 1;
    setTimeout(() => location.reload(), Math.min(500 * 2 ** count, 15000) * (0.75 + Math.random() / 2));
  });
})();
