#!/bin/bash
# A client for longrun in curl: client.sh http://127.0.0.1:8001 '{"vector_data": [1, 2], "duration": 3}' [KEY]
# KEY is an Idempotency-Key of your own. Where the server asks for a key, it is in the environment: APP_TOKEN=lrk_…
set -euo pipefail
server=$1 body=$2 key=${3:-$(cat /proc/sys/kernel/random/uuid)}

request() { # Shows the token in a file, and not in the list of processes.
    curl ${APP_TOKEN:+-K} ${APP_TOKEN:+<(printf 'header = "Authorization: Bearer %s"\n' "$APP_TOKEN")} "$@"
}

ask() { # Leaves the body in $answer. What may pass is tried again: a lost connection, 429, 503.
    while :; do
        answer=$(request -s -w '\n%{http_code}' "$@") || true
        case ${answer##*$'\n'} in
            2*) break ;;
            '' | 000 | 429 | 503) sleep 2 ;;
            *) echo "${answer%$'\n'*}" >&2; exit 1 ;; # problem+json: code, detail, errors
        esac
    done
    answer=${answer%$'\n'*}
}

# Submit. The key makes it safe to repeat: the same key and body are the same task.
ask "$server/tasks" -H 'Content-Type: application/json' -H "Idempotency-Key: $key" -d "$body"
id=$(sed 's/^{"task_id":"\([^"]*\)".*/\1/' <<<"$answer")

# Stream, and after a lost connection go on after the last event that came whole. 204 says that there is no more.
last=0 status=''
until [ "$status" = 204 ]; do
    event=message number='' data=''
    while IFS= read -r line; do
        case $line in
            'event: '*) event=${line#event: } ;;
            'id: '*) number=${line#id: } ;;
            'data: '*) data=${line#data: } ;;
            'status: '*) status=${line#status: } ;;
            '')
                if [ -n "$data" ]; then
                    echo "$event $data"
                    last=${number:-$last}
                fi
                event=message number='' data=''
                ;;
        esac
    done < <(request -sN "$server/tasks/$id/stream" -H 'Accept: text/event-stream' -H "Last-Event-ID: $last" \
        -w '\nstatus: %{http_code}\n' || true)
    case $status in 2* | 000 | 503) ;; *) echo "the stream answered $status" >&2; exit 1 ;; esac
    [ "$status" = 204 ] || sleep 1
done

# Wait: long polls, each held until the task has ended. After the stream the first answer is the last.
until grep -q '^{"task_id":"[^"]*","task_type":"[^"]*","status":"\(SUCCESS\|FAILED\|CANCELLED\)"' <<<"$answer"; do
    ask "$server/tasks/$id?wait=30"
done
echo "end $answer"
