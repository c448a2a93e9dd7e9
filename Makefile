# make demo: the four figures of the plasma text.  make test: linter, types, tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PLASMA := Sometimes, when people say plasma, they mean a state of matter. Other times, when people say plasma

.PHONY: demo test test-families test-ray families lint gallery readme bench kill soak fuzz clean
.DEFAULT_GOAL := demo

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: requirements.txt pyproject.toml | $(BIN)/python
	$(PIP) --requirement requirements.txt
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/.ready
	$(PIP) --requirement requirements-dev.txt
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
	set -e; pair=$$(mktemp -d); trap "rm -r $$pair" EXIT; for place in "Eiffel Tower" "Space Needle"; do \
		$(BIN)/logitlens rank --text "The $$place is in the city of" --target " Paris" --quiet \
			--name "$${place%% *}" --out $$pair --format none; \
	done; \
	$(BIN)/logitlens diff $$pair/Eiffel.rank.json $$pair/Space.rank.json --quiet \
		--out outputs/gallery --format png --dpi 110 --no-json

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

# Stopped at N random moments; a batch for MINUTES. No part of `make test`.
N := 200
MINUTES := 30
kill: $(VENV)/.ready-dev
	$(BIN)/python tests/endure/kill.py --moments $(N) --jobs 2

soak: $(VENV)/.ready-dev
	$(BIN)/python tests/endure/soak.py --minutes $(MINUTES)

# Readers and parsers, RUNS inputs each; what was found stays in build/fuzz. No part of `make test`.
RUNS := 100000
fuzz: .venv-fuzz/.ready
	set -e; for corpus in tests/fuzz/corpus/*; do \
		.venv-fuzz/bin/python tests/fuzz/run.py $$(basename $$corpus) -runs=$(RUNS); \
	done

.venv-fuzz/.ready: requirements-fuzz.txt
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	touch $@

# tests/bench/results.md, some twenty minutes on an idle machine; peers live beside the project's
# own environment, with the same torch.
PEERS := transformer-lens tuned-lens
bench: $(VENV)/.ready-dev $(PEERS:%=.venv-bench/%/.ready)
	$(BIN)/python tests/bench/run.py

.venv-bench/%/.ready: requirements.txt
	$(PYTHON) -m venv .venv-bench/$*
	.venv-bench/$*/bin/python -m pip --disable-pip-version-check install --quiet \
		$$(grep --extended-regexp "^(torch|numpy)==" requirements.txt) $*
	touch $@

clean:
	rm -rf .venv-bench .venv-fuzz $(VENV) build dist *.egg-info
