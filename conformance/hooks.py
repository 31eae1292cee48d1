"""What schemathesis must be told about this API: nothing may leave the machine, and every task must end soon.

Streams and held answers end when their task does. A thread cancels every task that is a few seconds old, whatever
keeps it: a long duration, a start in the far future, a queue that nobody serves, or one that was paused.
"""

import os
import threading
import time

import requests
import schemathesis

SERVER = os.environ["CONFORMANCE_SERVER"]
KEY = {"Authorization": "Bearer " + os.environ["CONFORMANCE_KEY"]}
EVERY = 1.0
# Nothing listens there, and the outbound guard refuses it anyway.
NOWHERE = "http://127.0.0.1:9/"


def cancel_what_is_under_way():
    seen = set()
    while True:
        time.sleep(EVERY)
        try:
            answer = requests.get(f"{SERVER}/tasks?status=PENDING,RUNNING&limit=1000", headers=KEY, timeout=60)
            # Whoever goes on with an error for a list ends here, and with it the end of all that is held.
            answer.raise_for_status()
            tasks = answer.json()
            for task in tasks:
                if task["task_id"] in seen:
                    requests.delete(f"{SERVER}/tasks/{task['task_id']}", headers=KEY, timeout=60)
            seen = {task["task_id"] for task in tasks}
        except requests.RequestException:
            pass  # Failures of the server are for the checks to find.


threading.Thread(target=cancel_what_is_under_way, daemon=True).start()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keeps scrapes at home, whatever host was made up, and tasks from expiring before they may start."""
    for body in case.body if isinstance(case.body, list) else [case.body]:
        if isinstance(body, dict) and str(body.get("url", "")).lower().lstrip().startswith("http"):
            body["url"] = NOWHERE
        # Nobody has the time to wait for work that does not come.
        if isinstance(body, dict) and type(body.get("wait")) is int and body["wait"] > 1:
            body["wait"] = 1
        # A rule between two options, which no schema can tell.
        options = body.get("options") if isinstance(body, dict) else None
        if isinstance(options, dict) and ("delay" in options or "run_at" in options):
            options.pop("expires_in", None)
