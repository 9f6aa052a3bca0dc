"""Exporting an adapter: the same probabilities before and after, whichever engine runs it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

import tiny_model
from poise.backends.checkpoint import quiet
from poise.errors import InputError, RefusedError, UsageError
from poise.train import model as models
from poise.train import parity
from poise.train.export import Exported, export
from poise.train.gguf_file import rewrite
from poise.train.model import Loaded
from poise.train.parity import CONVERSATIONS, FirstTokens

TRAINED = {f"blk.{layer}.attn_{part}.weight" for layer in (0, 1) for part in ("q", "v")}


def adapted(path: Path, *, targets: tuple[str, ...] = ("q_proj", "v_proj")) -> Loaded:
    """A model with an adapter that changes a lot."""
    loaded = models.with_adapter(
        models.load(path, device="cpu"), rank=4, targets=targets, dropout=0.5
    )
    torch.manual_seed(1)
    for name, weight in loaded.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    return loaded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.save_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    return tiny_model.save_gguf(folder.parent / "tiny.gguf", folder)


@pytest.fixture(scope="module")
def exported(base: Path) -> Exported:
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    return export(adapted(base), base.parent / "out")


@pytest.fixture(scope="module")
def file(exported: Exported) -> Path:
    assert exported.gguf is not None
    return exported.gguf


# -- what is written ------------------------------------------------------------------------------


def test_merging_changes_no_probability(exported: Exported) -> None:
    found = exported.merging
    assert (found.conversations, found.same_first, found.same_prompts) == (8, 8, 8)
    assert found.compared == 8 * 20
    assert found.largest < 1e-4


def test_llama_cpp_is_no_further_from_the_export_than_from_the_base(exported: Exported) -> None:
    """Packed weights meet packed activations in llama.cpp, so that it is never quite the same."""
    before, after = exported.before, exported.after
    assert before is not None
    assert after is not None
    assert exported.reason is None
    assert before.same_prompts == after.same_prompts == 8
    assert before.compared > 10
    assert after.compared > 10
    assert after.mean < 2 * before.mean + 0.01 < 0.2


def test_the_adapter_is_in_the_file_and_not_only_near_the_base(
    exported: Exported, base: Path
) -> None:
    assert exported.gguf is not None
    tokenizer = models.load(base, device="cpu").tokenizer
    old, new = (parity.llama_cpp(path, tokenizer, CONVERSATIONS) for path in (base, exported.gguf))
    apart = parity.compare(old, new)
    assert exported.after is not None
    assert apart.mean > 10 * exported.after.mean


def test_the_merged_folder_is_a_model_of_its_own(exported: Exported, base: Path) -> None:
    whole = models.load(exported.merged, device="cpu")
    trained = parity.transformers(adapted(base).model.eval(), whole.tokenizer, CONVERSATIONS)
    again = parity.transformers(whole.model, whole.tokenizer, CONVERSATIONS)
    assert parity.compare(trained, again).largest < 1e-4


def test_the_file_read_by_transformers_is_the_merged_model(exported: Exported, file: Path) -> None:
    """The rows of q are interleaved by heads on the way out and back."""
    packed = models.load(file, device="cpu").model.state_dict()
    for name, weight in models.load(exported.merged, device="cpu").model.state_dict().items():
        assert torch.allclose(weight, packed[name], atol=2e-3), name


def test_everything_that_was_not_trained_is_kept_byte_for_byte(base: Path, file: Path) -> None:
    old, new = gguf.GGUFReader(base), gguf.GGUFReader(file)
    edge = int(old.tensors[0].field.offset)
    assert bytes(old.data[:edge]) == bytes(new.data[:edge])
    for before, after in zip(old.tensors, new.tensors, strict=True):
        assert before.name == after.name
        assert list(before.shape) == list(after.shape)
        if before.name in TRAINED:
            assert after.tensor_type == gguf.GGMLQuantizationType.F16
            assert not np.array_equal(before.data, after.data)
        else:
            assert before.tensor_type == after.tensor_type
            assert bytes(before.data) == bytes(after.data)


def test_the_report_lies_beside_it(exported: Exported) -> None:
    told = json.loads((exported.merged.parent / "export.json").read_text())
    assert told == exported.to_dict()
    assert (told["changed"], told["gguf"], told["merged"]) == (4, "out.gguf", "merged")
    assert told["gguf_sha256"] != told["merged_sha256"]


@pytest.mark.parametrize("targets", [("k_proj",), ("o_proj", "down_proj"), ("lm_head",)])
def test_any_linear_layer_may_have_been_trained(
    base: Path, tmp_path: Path, targets: tuple[str, ...]
) -> None:
    one = CONVERSATIONS[:1]
    done = export(adapted(base, targets=targets), tmp_path / "out", conversations=one)
    assert done.gguf is not None
    packed = models.load(done.gguf, device="cpu").model.state_dict()
    for name, weight in models.load(done.merged, device="cpu").model.state_dict().items():
        assert torch.allclose(weight, packed[name], atol=2e-3), name


# -- what is refused ------------------------------------------------------------------------------


def test_a_base_that_is_a_folder_is_merged_and_the_reason_is_said(
    folder: Path, tmp_path: Path
) -> None:
    done = export(adapted(folder), tmp_path / "out")
    assert (done.gguf, done.before, done.after) == (None, None, None)
    assert done.reason is not None
    assert "convert_hf_to_gguf" in done.reason
    assert models.load(done.merged, device="cpu").name == "merged"


def test_a_model_without_an_adapter_and_a_folder_in_use_are_refused(
    base: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no adapter to merge"):
        export(models.load(base, device="cpu"), tmp_path / "out")
    (tmp_path / "kept").write_text("mine")
    for place in (tmp_path, tmp_path / "kept"):
        with pytest.raises(UsageError, match="not an empty folder"):
            export(adapted(base), place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


def test_an_adapter_on_something_else_than_a_linear_layer_is_refused(
    base: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="only adapters on linear layers"):
        export(adapted(base, targets=("embed_tokens",)), tmp_path / "out")


def test_an_adapter_that_keeps_whole_layers_is_refused(base: Path, tmp_path: Path) -> None:
    """They would be in the merged folder and not in the .gguf file."""
    import peft

    loaded = models.load(base, device="cpu")
    config = peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"])
    with quiet():
        whole = peft.get_peft_model(loaded.model, config)
    with pytest.raises(UsageError, match="keeps whole layers"):
        export(replace(loaded, model=whole), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_of_another_model_are_not_put_into_a_file(base: Path, tmp_path: Path) -> None:
    target, name = tmp_path / "out.gguf", "model.layers.0.self_attn.q_proj"
    other = np.ones((32, 32), np.float32)
    with pytest.raises(InputError, match=r"attn_q\.weight is not the matrix"):
        rewrite(base, target, {name: (other, other)}, (4, 2))
    with pytest.raises(InputError, match=r"no tensor for the layer model\.layers\.9"):
        rewrite(base, target, {"model.layers.9.self_attn.q_proj": (other, other)}, (4, 2))
    mine = models.load(base, device="cpu").model.get_submodule(name).weight.detach().numpy()
    for value in (1e6, np.nan, np.inf):
        new = np.full_like(mine, value)
        with pytest.raises(InputError, match="too large for F16, or not finite"):
            rewrite(base, target, {name: (mine, new)}, (4, 2))
    (tmp_path / "no.gguf").write_bytes(b"this is not a model, whatever its name may say")
    with pytest.raises(InputError, match="not a readable"):
        rewrite(tmp_path / "no.gguf", target, {name: (mine, mine)}, (4, 2))
    assert not target.exists()


# -- comparing ------------------------------------------------------------------------------------


def test_parity_counts_what_both_list() -> None:
    one = FirstTokens(({"a": -1.0, "b": -2.0, "c": -3.0}, {"a": -1.0}), (5, 6))
    other = FirstTokens(({"a": -1.5, "b": -1.25}, {"a": -1.0, "z": -0.1}), (5, 7))
    found = parity.compare(one, other)
    assert (found.conversations, found.compared, found.same_first, found.same_prompts) == (
        2,
        3,
        1,
        1,
    )
    assert (found.mean, found.largest) == (pytest.approx(1.25 / 3), 0.75)
    assert parity.compare(one, other, top=1).compared == 2


def test_nothing_in_common_is_no_parity() -> None:
    with pytest.raises(RefusedError, match="no token in common"):
        parity.compare(FirstTokens(({"a": -1.0},), (1,)), FirstTokens(({"b": -1.0},), (1,)))
