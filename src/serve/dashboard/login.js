// Login: an API key becomes a cookie that no script can read.

import { el, show, template, text } from "./dom.js";
import { call, session } from "./api.js";
import { go } from "./app.js";

export async function open({ main, params, title }) {
  const { root, part } = template("login");
  title("Sign in");
  main.replaceChildren(root);
  root.querySelector("input").focus();
  const next = params.get("next") || "";
  return {
    act: {
      async login(form) {
        try {
          Object.assign(session, (await call("POST", "/session", { body: { key: form.key.value }, quiet: true })).data);
          // Only to a page of ours.
          go(/^\/ui\/(?!login)/.test(next) ? next : "/ui/tasks", { replace: true });
        } catch (failure) {
          show(part.wrong, true);
          text(part.wrong, failure.status === 401 ? "This key is not known." : failure.words);
          form.key.select();
        }
      },
    },
  };
}
