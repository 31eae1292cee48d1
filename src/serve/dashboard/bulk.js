// Bulk: one action on many tasks, of which the server says how many there are before anybody is asked.

import { call } from "./api.js";
import { count, number } from "./format.js";
import { ask, known, refused, toast } from "./actions.js";

const DONE = { retry: "retried", cancel: "cancelled" };

/**
 * Does something to many tasks: the server counts, the dialog says what, a hundred and more must be typed.
 * @param {"retry"|"cancel"} verb @param {{ids?: string[], filter?: object}} which @param {string} words the filter in words
 * @returns {Promise<boolean>} whether it was done
 */
export async function bulk(verb, which, words) {
  if (!known()) return false;
  try {
    const { count: found, more } = (await call("POST", `/tasks/${verb}`, { body: { ...which, dry_run: true } })).data;
    const asked = which.ids ? which.ids.length : found;
    if (!found) {
      toast(`None of them can be ${DONE[verb]}.`);
      return false;
    }
    const act = verb === "retry" ? "Retry" : "Cancel";
    const title = `${act} ${more ? `more than ${number(found)} tasks` : count(found, "task")}?`;
    const left = asked > found ? ` Of them ${number(asked - found)} cannot be ${DONE[verb]}.` : "";
    const stakes = verb === "cancel" ? " What runs will stop, and its work is lost." : "";
    const sure = await ask({
      title, words: `${words}.${stakes}${left} The number may change until it is done.`, no: "Keep as they are", yes: verb === "retry" ? act : "Cancel tasks",
      type: found > 100 ? found : undefined,
    });
    if (!sure) return false;
    toast(`${verb === "retry" ? "Retrying" : "Cancelling"} ${number(found)}…`);
    const { count: done } = (await call("POST", `/tasks/${verb}`, { body: which, patience: 600000 })).data;
    const missed = !more && found > done ? `, ${number(found - done)} had changed meanwhile` : "";
    toast(`${number(done)} ${DONE[verb]}${missed}.`);
    return true;
  } catch (failure) {
    refused(failure);
    return false;
  }
}
