// Boot: sets the theme before the first paint, then loads the program. During a rollout the folder in the page may
// belong to another version than the server that answers: then the page is loaded again, later and later.
(() => {
  const root = document.documentElement;
  try {
    const theme = localStorage.getItem("theme");
    if (theme) root.dataset.theme = theme;
  } catch { /* storage may be forbidden: the system's theme it is */ }
  const tries = () => Number(sessionStorage.getItem("tries") || 0);
  import(root.dataset.assets + "/app.js").then((app) => {
    sessionStorage.removeItem("tries");
    const start = () => app.start();
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
    else start();
  }).catch((error) => {
    console.error(error);
    const count = tries();
    sessionStorage.setItem("tries", String(count + 1));
    setTimeout(() => location.reload(), Math.min(500 * 2 ** count, 15000) * (0.75 + Math.random() / 2));
  });
})();
