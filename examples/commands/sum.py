"""A command task in Python: reads one JSON object, writes lines, and saves its place when it is asked to stop."""
import json, signal, sys, time

def say(**line):
    print(json.dumps(line), flush=True)

def stop(*_):  # SIGTERM: the place is saved already, so there is nothing left to do.
    print("asked to stop", flush=True)
    sys.exit(75)  # May be tried again. After a cancel nobody looks at this.

signal.signal(signal.SIGTERM, stop)
task = json.load(sys.stdin)
n, pause = task["input"]["n"], task["input"].get("pause", 0)
at = task["checkpoint"] or {"done": 0, "sum": 0}
print(f"delivery {task['delivery']} begins after {at['done']}", flush=True)  # Not JSON: a line of the log.
while at["done"] < n:
    time.sleep(pause)
    at = {"done": at["done"] + 1, "sum": at["sum"] + at["done"] + 1}
    say(checkpoint=at)
    say(progress={"current": at["done"], "total": n})
say(result={"sum": at["sum"]})
