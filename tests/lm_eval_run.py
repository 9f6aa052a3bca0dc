"""``lm_eval_run.py FOLDER BASE_URL``: lm-eval's task ``sums`` in FOLDER, asked of a gateway.

By its Python interface, because the command reads its thousands of own tasks first. It prints one
JSON object.
"""

from __future__ import annotations

import json
import sys

import lm_eval
from lm_eval.tasks import TaskManager


def main(folder: str, base_url: str) -> None:
    """Run it."""
    found = lm_eval.simple_evaluate(
        model="local-chat-completions",
        model_args={
            "model": "smollm2-number",
            "base_url": f"{base_url}/chat/completions",
            "num_concurrent": 2,
            "tokenized_requests": False,
        },
        tasks=["sums"],
        task_manager=TaskManager(include_path=folder, include_defaults=False),
        apply_chat_template=True,
        bootstrap_iters=0,
        limit=4,
    )
    told = {
        "questions": found["n-samples"]["sums"]["effective"],
        "exact_match": found["results"]["sums"]["exact_match,last"],
        "replies": [sample["resps"][0][0] for sample in found["samples"]["sums"]],
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
