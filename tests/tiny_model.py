"""A random model of a few thousand weights, as a Hugging Face folder and as a .gguf file.

A Llama of two layers with grouped heads over a byte-level vocabulary that knows a few words whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ("Yes", "No", "ĠYes", "ĠNo", "true", "false", "the", "Ġis")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}


def vocabulary(words: tuple[str, ...] = WORDS) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens in the order of their ids, and the merges that make ``words``."""
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*SPECIAL, *sorted(ByteLevel.alphabet())]
    merges: list[tuple[str, str]] = []
    for word in words:
        left = word[0]
        for letter in word[1:]:
            if (left, letter) not in merges:
                merges.append((left, letter))
            left += letter
            if left not in tokens:
                tokens.append(left)
    return tokens, merges


def tokenizer(words: tuple[str, ...] = WORDS) -> Any:
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as Bytes
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    tokens, merges = vocabulary(words)
    made = Tokenizer(BPE({token: place for place, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    made.decoder = Bytes()
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    pad, _, eos = SPECIAL
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=eos, pad_token=pad)
    fast.chat_template = TEMPLATE
    return fast


def save_folder(
    folder: Path, *, seed: int = 0, words: tuple[str, ...] = WORDS, **size: int
) -> Path:
    """Write the model as a Hugging Face folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    fast = tokenizer(words)
    torch.manual_seed(seed)
    config = LlamaConfig(
        **{**SIZE, **size},
        vocab_size=len(fast),
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def save_gguf(path: Path, folder: Path, *, packed: bool = True) -> Path:
    """Write the model of ``folder`` as a .gguf file; ``packed``: its matrices as Q8_0."""
    import gguf
    import torch
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text())
    tokens, merges = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, weight in load_file(folder / "model.safetensors").items():
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if part in name:
                weight = interleaved(weight, config[heads])  # noqa: PLW2901
        short = names.get_name(name, try_suffixes=(".weight",))
        array = weight.to(torch.float32).contiguous().numpy()
        if packed and array.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(short, gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(short, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def interleaved(weight: Any, heads: int) -> Any:
    """Rows of each head in the order that llama.cpp rotates them in: halves side by side."""
    rows, columns = weight.shape
    return (
        weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )
