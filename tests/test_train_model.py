"""Loading a model to train: its tokens for yes and no, its adapter, its sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny_model
from poise.errors import InputError, ModelMissing, RefusedError, UsageError
from poise.signals.p_true import side
from poise.train import model as models
from poise.train.model import Loaded

SAID = torch.tensor([[1, 87, 85, 71, 84, 201, 260, 2, 201]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.save_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def packed(folder: Path) -> Path:
    return tiny_model.save_gguf(folder.parent / "tiny.gguf", folder)


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    return models.load(folder, device="cpu")


def logits(loaded: Loaded) -> torch.Tensor:
    loaded.model.eval()
    with torch.no_grad():
        found: torch.Tensor = loaded.model(SAID).logits
    return found


def shaken(loaded: Loaded, seed: int = 0) -> Loaded:
    """An adapter's second matrices are zero at first, so that it changes nothing; not here."""
    torch.manual_seed(seed)
    for name, weight in loaded.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    return loaded


# -- loading --------------------------------------------------------------------------------------


def test_a_folder_and_the_file_made_of_it_are_one_model(folder: Path, packed: Path) -> None:
    whole, file = models.load(folder, device="cpu"), models.load(packed, device="cpu")
    assert (whole.name, file.name) == ("tiny", "tiny")
    assert (whole.yes, whole.no) == (file.yes, file.no)
    assert models.count(whole) == models.count(file)
    # Q8_0 keeps a 128th of each block's largest weight.
    assert torch.allclose(logits(whole), logits(file), atol=0.3)
    assert not torch.equal(logits(whole), logits(file))


def test_what_was_packed_is_unpacked_and_may_be_saved_and_trained(
    packed: Path, tmp_path: Path
) -> None:
    loaded = models.load(packed, device="cpu")
    assert not loaded.model.is_quantized
    loaded.model.save_pretrained(tmp_path / "again")
    assert "quantization_config" not in json.loads((tmp_path / "again/config.json").read_text())
    loaded.model(SAID, labels=SAID).loss.backward()


def test_the_digest_is_of_the_weights(folder: Path, packed: Path, tmp_path: Path) -> None:
    other = tiny_model.save_folder(tmp_path / "other", seed=1)
    same = tiny_model.save_folder(tmp_path / "same", seed=0)
    found = [models.load(path, device="cpu").sha256 for path in (folder, packed, other, same)]
    assert len(set(found[:3])) == 3
    assert found[0] == found[3]


def test_a_dtype_is_kept_and_another_refused(folder: Path) -> None:
    loaded = models.load(folder, dtype="bfloat16", device="cpu")
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.bfloat16}
    with pytest.raises(UsageError, match="dtype='int8'"):
        models.load(folder, dtype="int8")


def test_what_is_no_model_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="none: no such model"):
        models.load(tmp_path / "none")
    with pytest.raises(ModelMissing, match=r"no config\.json"):
        models.load(tmp_path)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"this is not a model")
    with pytest.raises(ModelMissing, match=r"broken\.gguf: transformers cannot read it") as caught:
        models.load(broken)
    assert len(str(caught.value).splitlines()) == 1
    silent = tmp_path / "silent"
    silent.mkdir()
    for file in folder.iterdir():
        if file.name != "chat_template.jinja":
            (silent / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ModelMissing, match="no chat template"):
        models.load(silent)


# -- yes and no -----------------------------------------------------------------------------------


def test_yes_and_no_are_every_token_that_the_signal_counts(loaded: Loaded) -> None:
    special = set(loaded.tokenizer.all_special_ids)
    for number in range(len(loaded.tokenizer)):
        word = None if number in special else side(loaded.tokenizer.decode([number]))
        assert (number in loaded.yes) == (word == "yes")
        assert (number in loaded.no) == (word == "no")
    shown = {loaded.tokenizer.decode([number]) for number in (*loaded.yes, *loaded.no)}
    assert shown == {"Yes", " Yes", "true", "No", " No", "false"}


@pytest.mark.parametrize(
    ("words", "absent"), [(("the",), "Yes or No"), (("Yes",), "No"), (("ĠNo",), "Yes")]
)
def test_a_tokenizer_without_one_of_them_is_refused(words: tuple[str, ...], absent: str) -> None:
    with pytest.raises(InputError, match=f"no single token for {absent}, so"):
        models.sides(tiny_model.tokenizer(words), Path("m"))


@given(st.text(alphabet=" *\"'_.\n", max_size=3), st.sampled_from(["Yes", "NO", "true", "False"]))
def test_marks_around_the_word_do_not_hide_it(marks: str, word: str) -> None:
    assert side(f"{marks}{word}{marks}") == ("yes" if word in {"Yes", "true"} else "no")
    assert side(f"{marks}{word[:-1]}{marks}") is None or word[:-1].lower() in {"yes", "no"}


# -- adapters -------------------------------------------------------------------------------------


def test_a_new_adapter_changes_nothing_and_alone_is_trainable(loaded: Loaded) -> None:
    before, whole = logits(loaded), models.count(loaded)
    adapted = models.with_adapter(loaded, rank=4)
    assert adapted.model.training
    assert torch.equal(logits(adapted), before)
    # q is 32 x 32 and v 16 x 32, in two layers.
    assert models.count(adapted).trainable == 2 * 4 * ((32 + 32) + (32 + 16))
    assert models.count(adapted).total == whole.total + models.count(adapted).trainable
    names = [name for name, weight in adapted.model.named_parameters() if weight.requires_grad]
    assert all("lora_" in name and ("q_proj" in name or "v_proj" in name) for name in names)


def test_gradients_are_only_where_they_should_be(loaded: Loaded) -> None:
    adapted = shaken(models.with_adapter(loaded, rank=2, dropout=0.0))
    adapted.model(SAID, labels=SAID).loss.backward()
    for name, weight in adapted.model.named_parameters():
        assert (weight.grad is not None) == ("lora_" in name), name
        assert weight.grad is None or weight.grad.abs().sum() > 0


def test_a_seed_fixes_the_adapter_and_leaves_the_world_as_it_was(folder: Path) -> None:
    def first(seed: int) -> torch.Tensor:
        adapted = models.with_adapter(models.load(folder, device="cpu"), seed=seed)
        found = dict(adapted.model.named_parameters())
        return next(weight for name, weight in found.items() if "lora_A" in name)

    state = torch.random.get_rng_state()
    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))
    torch.random.set_rng_state(state)
    models.with_adapter(models.load(folder, device="cpu"), seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_adapter_comes_back_from_its_folder_and_can_be_switched_off(
    folder: Path, tmp_path: Path
) -> None:
    plain = logits(models.load(folder, device="cpu"))
    adapted = shaken(models.with_adapter(models.load(folder, device="cpu"), rank=4))
    trained = logits(adapted)
    assert not torch.equal(trained, plain)
    models.save_adapter(adapted, tmp_path / "adapter")
    again = models.open_adapter(models.load(folder, device="cpu"), tmp_path / "adapter")
    assert torch.equal(logits(again), trained)
    assert models.count(again).trainable == 0
    with models.without_adapter(again) as off:
        assert torch.equal(logits(off), plain)
    assert torch.equal(logits(again), trained)
    further = models.open_adapter(
        models.load(folder, device="cpu"), tmp_path / "adapter", trainable=True
    )
    assert models.count(further).trainable == models.count(adapted).trainable


def test_a_model_without_an_adapter_stays_as_it_is_without_one(loaded: Loaded) -> None:
    with models.without_adapter(loaded) as same:
        assert same is loaded


def test_an_adapter_of_other_weights_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    adapted = models.with_adapter(models.load(folder, device="cpu"), rank=2)
    models.save_adapter(adapted, tmp_path / "adapter")
    other = tiny_model.save_folder(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="trained on tiny .*others") as caught:
        models.open_adapter(models.load(other, device="cpu"), tmp_path / "adapter")
    assert len(str(caught.value).splitlines()) == 1


def test_an_unsigned_adapter_that_does_not_fit_is_refused_in_one_line(
    folder: Path, tmp_path: Path
) -> None:
    adapted = models.with_adapter(models.load(folder, device="cpu"), rank=2)
    adapted.model.save_pretrained(str(tmp_path / "adapter"))
    models.open_adapter(models.load(folder, device="cpu"), tmp_path / "adapter")
    wide = tiny_model.save_folder(tmp_path / "wide", hidden_size=64)
    with pytest.raises(InputError, match="does not fit this model") as caught:
        models.open_adapter(models.load(wide, device="cpu"), tmp_path / "adapter")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_signature_that_is_none_is_named(folder: Path, tmp_path: Path, text: str) -> None:
    models.save_adapter(models.with_adapter(models.load(folder, device="cpu"), rank=2), tmp_path)
    (tmp_path / "poise_base.json").write_text(text)
    with pytest.raises(InputError, match=r"poise_base\.json: not a JSON object"):
        models.open_adapter(models.load(folder, device="cpu"), tmp_path)


def test_a_folder_without_an_adapter_is_refused(loaded: Loaded, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no adapter_config\.json"):
        models.open_adapter(loaded, tmp_path)
    with pytest.raises(UsageError, match="no adapter to save"):
        models.save_adapter(loaded, tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rank": 0}, "rank=0"),
        ({"alpha": 0}, "alpha=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"targets": ("w_q",)}, "no adapter can be put on w_q"),
    ],
)
def test_an_adapter_that_makes_no_sense_is_refused(
    loaded: Loaded, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        models.with_adapter(loaded, **given)
    assert len(str(caught.value).splitlines()) == 1


def test_a_second_adapter_is_refused(loaded: Loaded) -> None:
    with pytest.raises(UsageError, match="an adapter already"):
        models.with_adapter(models.with_adapter(loaded, rank=2))


# -- sizes ----------------------------------------------------------------------------------------


def test_memory_grows_with_rows_tokens_and_what_is_trained(loaded: Loaded) -> None:
    assert models.count(loaded).bytes == 4 * models.count(loaded).total
    one, two = models.training_bytes(loaded, 1, 8), models.training_bytes(loaded, 2, 8)
    assert two - one == models.training_bytes(loaded, 1, 16) - one > 0
    adapted = models.with_adapter(loaded, rank=2)
    assert models.count(adapted).bytes < models.training_bytes(adapted, 1, 8) < one


def test_too_little_memory_is_refused_before_anything_is_trained(loaded: Loaded) -> None:
    need = models.require_memory(loaded, 4, 32)
    assert models.require_memory(loaded, 4, 32, free=need) == need
    with pytest.raises(RefusedError, match=r"4 rows of 32 tokens .* lower --batch"):
        models.require_memory(loaded, 4, 32, free=need - 1)
    assert models.free_bytes(loaded.device) > 1 << 20
