#!/bin/sh
# The real training runs on the embedded model, on two cores: some four hours. Each goes on where
# it was stopped. Then: python benchmarks/training.py build/training/* condenses the reports.
set -eu
cd "$(dirname "$0")/../.."
poise=${POISE:-.venv/bin/poise}
python=${PYTHON:-.venv/bin/python}
pools=benchmarks/pools
out=build/training
mkdir -p "$out"
fit=$pools/arithmetic_fit.jsonl.gz

# Self-Calibration: in domain, hundreds, words, misconceptions; gains in use.
"$poise" train sft "$fit" -o "$out/main" --target ssc --score --limit 240 --layers all --lr 1e-3 \
    --batch 8 --mixed --no-balance --seed 0 --questions 40 --in-use 16 --check-every 60 \
    --hold-segment "hundreds * 1-digit" --hold-segment "hundreds +" \
    --eval "$pools/words.jsonl.gz" --eval "$pools/misconceptions.jsonl.gz" --resume

# Everything else of one kind: on its training questions, measured on its held-out ones and hundreds.
cp "$out/main/before.held_out.jsonl.gz" "$out/heldout.jsonl.gz"
cp "$out/main/before.segments.jsonl.gz" "$out/hundreds.jsonl.gz"
sft() { # pool, name, flags
    from=$1
    name=$2
    shift 2
    "$poise" train sft "$from" -o "$out/$name" --held-out 0 \
        --eval "$out/heldout.jsonl.gz" --eval "$out/hundreds.jsonl.gz" --questions 40 \
        --lr 1e-3 --batch 8 --mixed --check-every 0 --seed 0 "$@" --resume
}
scored=$out/main/scored.jsonl.gz

# Labels by the log loss, at the size of the first run.
sft "$scored" labels --target labels --limit 240 --rows 1920 --no-balance --in-use 0 --layers all

# What each part of the recipe does: a third of the rows, one thing changed at a time.
ablation() { # pool, name, flags
    from=$1
    name=ablation_$2
    shift 2
    sft "$from" "$name" --rows 640 --no-balance --in-use 0 --layers all "$@"
}
ablation "$scored" full --target ssc --limit 240
ablation "$scored" labels_smooth --target labels --loss smooth --limit 240
ablation "$scored" labels_mse --target labels --loss mse --limit 240
ablation "$scored" labels_log --target labels --loss log --limit 240
ablation "$scored" p_true --target p_true --limit 240
ablation "$scored" consistency --target consistency --limit 240
ablation "$scored" mse --target ssc --loss mse --limit 240
ablation "$scored" no_generation --target ssc --weight 0 --limit 240

# Samples drawn with entropy-based dynamic temperature, and as they were stored: 80 questions.
"$python" - "$scored" > "$out/questions.jsonl" << 'END'
import gzip, json, sys
for line in gzip.open(sys.argv[1], "rt", encoding="utf-8"):
    made = json.loads(line)
    kept = {name: made[name] for name in ("question", "gold", "kind", "segment")}
    print(json.dumps({**kept, "id": made["question_id"]}))
END
"$poise" sample "$out/questions.jsonl" --limit 80 -n 16 -m transformers: --edt .8,.8,1 \
    --dataset arithmetic_fit -o "$out/edt.jsonl" --resume
ablation "$out/edt.jsonl" edt --target ssc --score
ablation "$scored" no_edt --target ssc --limit 80

# A stated confidence: the start of RL, and what the tokenised Brier score ends on instead.
stated="--wording stated --target ssc --limit 240 --rows 960 --layers all"
sft "$scored" warm $stated
sft "$scored" tokenised_ssc $stated --loss tokenised_brier
"$poise" train sft "$fit" -o "$out/tokenised_labels" --wording stated --loss tokenised_brier \
    --target labels --limit 240 --rows 1920 --layers all --lr 1e-3 --batch 8 --mixed \
    --questions 40 --check-every 0 --seed 0 --resume

# RL on stated confidences from that start: three arms of equal steps.
rl() { # name, rewards
    name=$1
    shift
    "$poise" train rl "$fit" -o "$out/$name" --adapter "$out/warm" --limit 240 --steps 30 \
        --lr 2e-4 --mixed --questions 40 --check-every 0 --seed 0 "$@" --resume
}
rl rl_brier --reward correctness=1 --reward brier=1 --reward formatted=.1
rl rl_correct --reward correctness=1 --reward formatted=.1
rl rl_reference --reward correctness=1 --reward brier=1 --reward reference_accuracy=1 \
    --reward formatted=.1

# Preferences.
"$poise" train prefs "$fit" -o "$out/prefs" --limit 60 --questions 16 --batch 4 --lr 1e-4 \
    --check-every 0 --seed 0 --resume
