"""Training calibrated confidence into weights: the only importer of training code.

=====================  =====================================================================
``targets``            what a confidence should become: soft self-consistency, P(True), labels
``rows``, ``batches``  samples -> token rows -> tensors and logits
``order``              which rows share a batch
``losses``             SmoothL1, squared, log, tokenised Brier, generation loss
``loop``, ``folder``   what every run shares: settings, checkpoints, giving up; its folder
``sft``                confidence training: LoRA, its loss, collapse
``pairs``, ``dpo``     samples -> preference pairs; training on them
``fresh``              fresh samples, how sure of their answers, how many right
``prefs``              the whole run of preference training, with its report
``sharpening``         what that report says went wrong
``stating``            a confidence that the reply states itself: its prompt, its rows
``stated``             how true such confidences are in fresh replies
``episodes``           the questions that reinforcement asks, what is noted of replies
``advantages``         what each token of a reply learns from, whole or split
``rl``, ``prefill``    GRPO on rewards; equal prompts computed once
``rl_recipe``          what is reinforced, from which model, on which questions
``reinforcement``      the whole run of reinforcement, with its report
``rl_signs``           what that report says went wrong
``lineage``            which questions an adapter has seen
``evaluating``         before and after on held-out questions, beside the baselines
``replies``            fresh replies and their accuracy
``recipe``             what is learned, held out, measured
``self_calibration``   the whole run, resumable, with its report
``estimate``           what a run would take, before it starts
``model``              weights, tokenizer, adapter, memory
``export``             adapter -> merged weights -> GGUF
=====================  =====================================================================

Importing this package loads nothing; its parts need the extra ``train``.
"""
