#!/bin/sh
# A command task in shell. Without a JSON tool it reads the few numbers that it needs with sed.
trap 'echo "asked to stop"; exit 75' TERM
task=$(cat)
# The first "input" and the last "checkpoint" are the task's own, whatever the submitter's metadata has between them.
input=${task#*\"input\":} checkpoint=${task##*\"checkpoint\":}
number() { printf '%s' "$2" | sed -n "s/^[^}]*\"$1\": *\([0-9.]*\).*/\1/p"; }
n=$(number n "$input") pause=$(number pause "$input")
done=$(number done "$checkpoint") sum=$(number sum "$checkpoint")
: "${pause:=0}" "${done:=0}" "${sum:=0}"
echo "delivery $LONGRUN_DELIVERY begins after $done" # Not JSON: a line of the log.
while [ "$done" -lt "$n" ]; do
    sleep "$pause" & wait $! # In the background, so that the trap is not held up.
    done=$((done + 1)) sum=$((sum + done))
    echo "{\"checkpoint\": {\"done\": $done, \"sum\": $sum}}"
    echo "{\"progress\": {\"current\": $done, \"total\": $n}}"
done
echo "{\"result\": {\"sum\": $sum}}"
