# make demo: the four figures of the plasma text.  make test: linter, types, tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
HASHED := --require-hashes --no-deps
PLASMA := Sometimes, when people say plasma, they mean a state of matter. Other times, when people say plasma

.PHONY: demo test test-families test-ray families lint gallery readme bench clean
.DEFAULT_GOAL := demo

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The pins are whole, so pip need not resolve. The CPU build of torch goes first where the index
# has it; the last line adds the libraries that a CUDA build pins itself.
$(VENV)/.ready: requirements.txt requirements-torch.txt requirements-torch-cpu.txt pyproject.toml | $(BIN)/python
	$(PIP) $(HASHED) --requirement requirements.txt
	$(PIP) $(HASHED) --requirement requirements-torch-cpu.txt \
		|| $(PIP) $(HASHED) --requirement requirements-torch.txt
	$(PIP) --no-build-isolation --editable .
	touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/.ready
	$(PIP) $(HASHED) --requirement requirements-dev.txt
	touch $@

demo: $(VENV)/.ready
	$(BIN)/logitlens all --text "$(PLASMA)" --name plasma

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy logitlens_cli tests

test: lint
	$(BIN)/logitlens models fetch
	$(BIN)/pytest --numprocesses 2 --dist loadgroup -m "not families"

# Every preset of the default model, as committed: byte-stable, so that git shows what changed.
PRESETS := $(wildcard configs/smollm2/*.toml)
gallery: $(VENV)/.ready
	set -e; for preset in $(PRESETS); do \
		command=$$(basename $$preset .toml); \
		$(BIN)/logitlens $${command##*.} --config $$preset --quiet \
			--out outputs/gallery --format png --dpi 110 --no-json; \
	done
	$(BIN)/python tests/bench/sentences.py 200 | $(BIN)/logitlens stats --lines - --quiet \
		--name python-reference --out outputs/gallery --format png --dpi 110 --no-json

readme: $(VENV)/.ready-dev
	$(BIN)/python tests/readme.py

# Every family of transformers, a few minutes; `make families` writes the table that is tested.
test-families: $(VENV)/.ready-dev
	$(BIN)/pytest --numprocesses 2 -m families

# A cluster of two workers on this machine; a part of `make test` too.
test-ray: $(VENV)/.ready-dev
	$(BIN)/pytest tests/test_cluster.py

families: $(VENV)/.ready-dev
	$(BIN)/python tests/family_table.py

# tests/bench/results.md, some twenty minutes on an idle machine; peers live beside the project's
# own environment, with the same torch.
PEERS := transformer-lens tuned-lens
bench: $(VENV)/.ready-dev $(PEERS:%=.venv-bench/%/.ready)
	$(BIN)/python tests/bench/run.py

.venv-bench/%/.ready: requirements.txt requirements-torch.txt
	$(PYTHON) -m venv .venv-bench/$*
	.venv-bench/$*/bin/python -m pip --disable-pip-version-check install --quiet \
		$$(grep --no-filename --only-matching --extended-regexp "^(torch|numpy)==[^ ]+" $^) $*
	touch $@

clean:
	rm -rf .venv-bench $(VENV) build dist *.egg-info
