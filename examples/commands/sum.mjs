// A command task in JavaScript (Node): reads one JSON object, writes lines, and stops when it is asked to.
import { setTimeout } from "node:timers/promises";

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
process.on("SIGTERM", () => {
  process.stdout.write("asked to stop\n", () => process.exit(75)); // May be tried again.
});

let text = "";
for await (const part of process.stdin) text += part;
const task = JSON.parse(text);
const { n, pause = 0 } = task.input;
let { done, sum } = task.checkpoint ?? { done: 0, sum: 0 };
console.log(`delivery ${task.delivery} begins after ${done}`); // Not JSON: a line of the log.
while (done < n) {
  await setTimeout(pause * 1000);
  done += 1;
  sum += done;
  say({ checkpoint: { done, sum } });
  say({ progress: { current: done, total: n } });
}
say({ result: { sum } });
