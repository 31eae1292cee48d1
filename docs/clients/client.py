"""A client for longrun: python3 client.py http://127.0.0.1:8001 '{"vector_data": [1, 2], "duration": 3}' [KEY]
KEY is an Idempotency-Key of your own. Where the server asks for a key, it is in the environment: APP_TOKEN=lrk_…"""
import json, os, sys, time, uuid
import requests

SERVER, FINAL = sys.argv[1].rstrip("/"), ("SUCCESS", "FAILED", "CANCELLED")
LOST = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
session = requests.Session()
session.headers.update({"Authorization": f"Bearer {token}"} if (token := os.environ.get("APP_TOKEN")) else {})

def ask(method, path, **request):
    while True:  # What may pass is tried again: a lost connection, 429, 503.
        try:
            answer = session.request(method, SERVER + path, timeout=60, **request)
            if answer.status_code not in (429, 503):
                break
            time.sleep(int(answer.headers.get("Retry-After", 2)))
        except LOST:
            time.sleep(1)
    if answer.status_code >= 400:
        sys.exit(answer.text)  # problem+json: code, detail, errors
    return answer

def submit(body, key=None):  # The key makes it safe to repeat: the same key and body are the same task.
    return ask("POST", "/tasks", json=body, headers={"Idempotency-Key": key or str(uuid.uuid4())}).json()

def wait(task_id):  # Long polls: an answer comes when the task has ended, or after 30 seconds.
    while (task := ask("GET", f"/tasks/{task_id}?wait=30").json())["status"] not in FINAL:
        pass
    return task

def stream(task_id, last="0"):  # Every event once, over any number of lost connections.
    while (answer := ask("GET", f"/tasks/{task_id}/stream", headers={"Last-Event-ID": last}, stream=True)).status_code != 204:
        answer.encoding, event = "utf-8", {}
        try:
            for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
                if line:
                    field, _, value = line.partition(": ")
                    event[field] = value
                elif "data" in event:  # An empty line ends an event: what was cut off before it comes again.
                    yield event.get("event", "message"), json.loads(event["data"])
                    last, event = event.get("id", last), {}
                else:
                    event = {}
        except LOST:
            time.sleep(1)

if __name__ == "__main__":
    task = submit(json.loads(sys.argv[2]), *sys.argv[3:])
    for name, data in stream(task["task_id"]):
        print(name, json.dumps(data), flush=True)
    print("end", json.dumps(wait(task["task_id"])), flush=True)
