#!/bin/sh
# Draws the project's own pools on the embedded model; see README.md beside this file.
# Resumable: run it again after a kill. Nothing is drawn twice and no question is in two files.
set -eu
cd "$(dirname "$0")/../.."
out=build/pools
mkdir -p "$out"
bin=.venv/bin

questions() { # file, task and its options
    file=$1; shift
    [ -e "$out/$file" ] || "$bin/python" -m poise.tasks "$@" -o "$out/$file"
}
pool() { # name, seed
    "$bin/poise" sample "$out/$1.questions.jsonl" -n 16 --seed "$2" --dataset "$1" --top-logprobs 2 \
        --concurrency 2 --config benchmarks/pools/embedded.toml -o "$out/$1.jsonl" --resume
    gzip -9 -n -c "$out/$1.jsonl" > "benchmarks/pools/$1.jsonl.gz"
}

questions arithmetic_fit.questions.jsonl arithmetic --part fit -n 1200 --seed 20261122
questions arithmetic_test.questions.jsonl arithmetic --part test -n 600 --seed 20261122
questions words.questions.jsonl words -n 210 --seed 20261122
questions facts.questions.jsonl facts -n 200 --seed 20261122
questions misconceptions.questions.jsonl misconceptions -n 120 --seed 20261122
# 400 of what a longer held-out part has beyond the 600.
[ -e "$out/arithmetic_fresh.questions.jsonl" ] || {
    questions arithmetic_more.questions.jsonl arithmetic --part test -n 1500 --seed 20261122
    "$bin/python" - "$out" <<'END'
import json, pathlib, random, sys
out = pathlib.Path(sys.argv[1])
rows = {name: [json.loads(line) for line in (out / f"arithmetic_{name}.questions.jsonl").open()]
        for name in ("test", "more")}
known = {row["question"] for row in rows["test"]}
fresh = [row for row in rows["more"] if row["question"] not in known]
random.Random(4).shuffle(fresh)
lines = [json.dumps(row) + "\n" for row in fresh[:400]]
(out / "arithmetic_fresh.questions.jsonl").write_text("".join(lines))
END
}
pool arithmetic_fit 1
pool words 3
pool facts 4
pool misconceptions 6
pool arithmetic_test 2
pool arithmetic_fresh 5
