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

# Self-Calibration: in domain, other digits, words, misconceptions; gains in use.
"$poise" train sft "$fit" -o "$out/main" --target ssc --score --limit 240 --layers all --lr 1e-3 \
    --batch 8 --mixed --no-balance --seed 0 --questions 40 --in-use 16 --check-every 60 \
    --hold-segment "hundreds * 1-digit" --hold-segment "hundreds +" \
    --eval "$pools/words.jsonl.gz" --eval "$pools/misconceptions.jsonl.gz" --resume

# A stated confidence, then RL on it: three arms of equal steps.
"$poise" train sft "$fit" -o "$out/warm" --wording stated --target labels --limit 240 --rows 400 \
    --layers all --lr 1e-3 --batch 8 --mixed --questions 40 --check-every 0 --seed 0 --resume
rl() { # name, rewards
    name=$1
    shift
    "$poise" train rl "$fit" -o "$out/$name" --adapter "$out/warm" --limit 240 --steps 12 --lr 2e-4 \
        --mixed --questions 40 --check-every 0 --seed 0 "$@" --resume
}
rl rl_correct --reward correctness=1 --reward formatted=.1
rl rl_brier --reward correctness=1 --reward brier=1 --reward formatted=.1
rl rl_reference --reward correctness=1 --reward brier=1 --reward reference_accuracy=1 \
    --reward formatted=.1

# Ablations: 640 rows of 80 of the same questions, the same held-out ones.
cp "$out/main/scored.jsonl.gz" "$out/scored.jsonl.gz"
cp "$out/main/before.held_out.jsonl.gz" "$out/heldout.jsonl.gz"
ablate() { # name, what differs
    name=$1
    shift
    "$poise" train sft "$out/scored.jsonl.gz" -o "$out/$name" --held-out 0 --limit 80 --rows 640 \
        --lr 1e-3 --batch 8 --mixed --no-balance --seed 0 --questions 40 --in-use 0 \
        --check-every 0 --eval "$out/heldout.jsonl.gz" "$@" --resume
}
ablate abl_full --target ssc --layers all
ablate abl_labels --target labels --layers all
ablate abl_qv --target ssc --layers qv
ablate abl_nogen --target ssc --layers all --weight 0
ablate abl_mse --target ssc --layers all --loss mse
ablate abl_p_true --target p_true --layers all
