#!/bin/sh
# The real training runs on the embedded model, on two cores: some two hours. Each goes on where it
# was stopped. Then: python benchmarks/training.py build/training/* condenses the reports.
set -eu
cd "$(dirname "$0")/../.."
poise=${POISE:-.venv/bin/poise}
pools=benchmarks/pools
out=build/training
mkdir -p "$out"
fit=$pools/arithmetic_fit.jsonl.gz

# Self-Calibration: in domain, hundreds, words, misconceptions; gains in use.
"$poise" train sft "$fit" -o "$out/main" --target ssc --score --limit 240 --layers all --lr 1e-3 \
    --batch 8 --mixed --no-balance --seed 0 --questions 40 --in-use 16 --check-every 60 \
    --hold-segment "hundreds * 1-digit" --hold-segment "hundreds +" \
    --eval "$pools/words.jsonl.gz" --eval "$pools/misconceptions.jsonl.gz" --resume

# A stated confidence by tokenised Brier on labels.
"$poise" train sft "$fit" -o "$out/warm" --wording stated --target labels --limit 240 --rows 400 \
    --layers all --lr 1e-3 --batch 8 --mixed --questions 40 --check-every 0 --seed 0 --resume

# RL on stated confidences from the untrained model: three arms of equal steps.
rl() { # name, rewards
    name=$1
    shift
    "$poise" train rl "$fit" -o "$out/$name" --limit 240 --steps 15 --lr 2e-4 --mixed \
        --questions 40 --check-every 0 --seed 0 "$@" --resume
}
rl rl_brier --reward correctness=1 --reward brier=1 --reward formatted=.1
rl rl_correct --reward correctness=1 --reward formatted=.1
rl rl_reference --reward correctness=1 --reward brier=1 --reward reference_accuracy=1 \
    --reward formatted=.1

# Preferences.
"$poise" train prefs "$fit" -o "$out/prefs" --limit 60 --questions 16 --batch 4 --lr 1e-4 \
    --check-every 0 --seed 0 --resume
