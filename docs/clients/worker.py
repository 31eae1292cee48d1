"""A worker for longrun in Python: python3 worker.py http://127.0.0.1:8001 [KEY]. Counts the words of a text, slowly."""
import socket, os, sys, threading, time
import requests

SERVER, QUEUE, TYPE = sys.argv[1].rstrip("/"), "words", "count_words"
SCHEMA = {"type": "object", "required": ["text"], "additionalProperties": False,
          "properties": {"text": {"type": "string"}, "pause": {"type": "number", "default": 0}}}
session = requests.Session()
session.headers.update({"Authorization": f"Bearer {key}"} if (key := "".join(sys.argv[2:3])) else {})

class Lost(Exception):  # The task is not ours any more: cancelled, timed out, or taken after a lease that ran out.
    pass

def call(path, body, method="POST"):
    while True:  # What may pass is tried again: a lost connection, 429, 503. Every call is safe to repeat.
        try:
            answer = session.request(method, SERVER + path, json=body, timeout=70)
        except requests.RequestException:
            time.sleep(1)
            continue
        if answer.status_code == 409:
            raise Lost(answer.json()["detail"])
        if answer.status_code not in (429, 503):
            answer.raise_for_status()
            return answer.json() if answer.status_code == 200 else None
        time.sleep(int(answer.headers.get("Retry-After", 2)))

def work(task):
    def tell(verb, **body):
        return call(f"/tasks/{task['task_id']}/lease/{verb}", {"lease_token": task["lease_token"], **body})

    def beat():  # The lease is 20 s; a third of it leaves time for two more tries.
        try:
            while not done.wait(6):
                tell("heartbeat")
        except Lost:
            lost.set()

    done, lost = threading.Event(), threading.Event()
    threading.Thread(target=beat, daemon=True).start()
    try:
        words = task["input"]["text"].split()
        for at in range((task["checkpoint"] or {}).get("words", 0), len(words)):
            if lost.wait(task["input"].get("pause", 0)):
                return
            tell("checkpoint", checkpoint={"words": at + 1})
            tell("progress", current=at + 1, total=len(words), message=words[at])
        tell("log", lines=[{"message": f"counted {len(words)} words in delivery {task['delivery']}"}])
        tell("complete", result={"words": len(words)})
    except Lost as why:
        print("dropped", task["task_id"], why, flush=True)
    except Exception as error:  # Anything else is worth another attempt, as far as the task's budget goes.
        tell("fail", code="failed", message=repr(error))
    finally:
        done.set()

call(f"/task-types/{TYPE}", {"description": "Counts words", "input_schema": SCHEMA, "queue": QUEUE}, method="PUT")
while True:
    asked = {"worker": f"{socket.gethostname()}/{os.getpid()}", "task_types": [TYPE], "wait": 30, "lease": "20s"}
    for task in call(f"/queues/{QUEUE}/lease", asked) or []:
        work(task)
