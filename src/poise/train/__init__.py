"""Training calibrated confidence into weights: the only importer of training code.

=====================  =====================================================================
``targets``            what a confidence should become: soft self-consistency, P(True), labels
``rows``, ``batches``  samples -> token rows -> tensors and logits
``losses``             SmoothL1, squared error, tokenised Brier, cross-entropy
``sft``                the loop: LoRA, checkpoints, collapse
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
