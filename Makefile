# make demo: the four figures of the plasma text.  make test: linter, types, tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
HASHED := --require-hashes --no-deps
PLASMA := Sometimes, when people say plasma, they mean a state of matter. Other times, when people say plasma

.PHONY: demo test test-slow test-families test-ray test-lowest families fix lint gallery lens docs \
	bench kill soak fuzz pins audit sbom clean
.DEFAULT_GOAL := demo

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The pins are whole, so pip need not resolve. Of torch the CPU build for Linux goes first; where
# the index does not have it, PyPI's is taken, and the last line adds what that one pins itself.
$(VENV)/.ready: requirements/run.txt requirements/torch.txt requirements/torch-cpu.txt pyproject.toml | $(BIN)/python
	$(PIP) $(HASHED) --requirement requirements/run.txt
	$(PIP) $(HASHED) --requirement requirements/torch-cpu.txt 2> $(VENV)/torch-cpu.log \
		|| $(PIP) $(HASHED) --requirement requirements/torch.txt
	$(PIP) --no-build-isolation --editable .
	touch $@

$(VENV)/.ready-dev: requirements/dev.txt $(VENV)/.ready
	$(PIP) $(HASHED) --requirement requirements/dev.txt
	touch $@

demo: $(VENV)/.ready
	$(BIN)/logitlens all --text "$(PLASMA)" --name plasma

# What lint wants, as far as a machine can write it.
fix: $(VENV)/.ready-dev
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy logitlens_cli tests

test: lint
	$(BIN)/logitlens models fetch
	$(BIN)/pytest --numprocesses 2 --dist loadgroup -m "not families and not slow"

# What takes long, or much memory; continuous integration runs it too.
test-slow: $(VENV)/.ready-dev
	$(BIN)/pytest --numprocesses 2 --dist loadgroup -m slow

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
	$(MAKE) lens
	set -e; for name in plasma repetition abstract; do \
		$(BIN)/logitlens topk --config configs/smollm2/$$name.topk.toml --quiet --lens fitted \
			--name $$name-fitted --out outputs/gallery --format png --dpi 110 --no-json; \
	done
	set -e; pair=$$(mktemp -d); trap "rm -r $$pair" EXIT; for lens in plain fitted; do \
		$(BIN)/python tests/bench/sentences.py 200 | $(BIN)/logitlens stats --lines - --quiet \
			--lens $$lens --name $$lens --out $$pair --format none; \
	done; \
	$(BIN)/logitlens overlay $$pair/plain.stats.json $$pair/fitted.stats.json kl-final --quiet \
		--out outputs/gallery --format png --dpi 110

# A lens fitted to the default model, in the cache, where `--lens fitted` looks: some four minutes.
lens: build/python-reference.jsonl
	$(BIN)/logitlens fit --lines $< --tokens 40960

build/python-reference.jsonl: tests/bench/topics.py $(VENV)/.ready
	mkdir -p build
	$(BIN)/python $< > $@

# The generated parts of the documents, and the dump's schema.
docs: $(VENV)/.ready-dev
	$(BIN)/python tests/tools/reference_docs.py

# Every family of transformers, a few minutes; `make families` writes the table that is tested.
test-families: $(VENV)/.ready-dev
	$(BIN)/pytest --numprocesses 2 -m families

# A cluster of two workers on this machine; a part of `make test` too.
test-ray: $(VENV)/.ready-dev
	$(BIN)/pytest tests/batch/test_cluster.py

families: $(VENV)/.ready-dev
	$(BIN)/python tests/tools/family_table.py

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

.venv-fuzz/.ready: requirements/fuzz.txt
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip --disable-pip-version-check install --quiet $(HASHED) --requirement $<
	touch $@

# tests/bench/results.md, some twenty minutes on an idle machine; peers live beside the project's
# own environment, with the same torch.
PEERS := transformer-lens tuned-lens
bench: $(VENV)/.ready-dev $(PEERS:%=.venv-bench/%/.ready)
	$(BIN)/python tests/bench/run.py

.venv-bench/%/.ready: requirements/run.txt requirements/torch.txt
	$(PYTHON) -m venv .venv-bench/$*
	.venv-bench/$*/bin/python -m pip --disable-pip-version-check install --quiet \
		$$(grep --no-filename --only-matching --extended-regexp "^(torch|numpy)==[^ ]+" $^) $*
	touch $@

# The oldest versions that pyproject.toml admits; torch stays at its pin, which has a CPU build.
LOWEST := .venv-lowest
LOWEST_TORCH := $$(grep --only-matching --extended-regexp "^torch==[^ ]+" requirements/torch.txt)
SMOKE := tests/figures tests/lens tests/metrics tests/reading tests/cli/test_app.py \
	$(patsubst %,tests/model/test_%.py,anatomy config files open tokenizer tokenizer_files weights)
$(LOWEST)/.ready: requirements/lowest.txt requirements/torch.txt pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet \
		--requirement requirements/lowest.txt $(LOWEST_TORCH)
	$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet \
		--no-build-isolation --no-deps --editable .
	touch $@

test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest -W ignore --numprocesses 2 --dist loadgroup -m "not slow" $(SMOKE)

# Tools for what follows, pinned and hashed like the rest.
SUPPLY := .venv-supply
$(SUPPLY)/.ready: requirements/supply.txt
	$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip --disable-pip-version-check install --quiet $(HASHED) --requirement $<
	touch $@

# Pins after a change of pyproject.toml; `UPGRADE=--upgrade make pins` for newer ones.
# requirements/torch*.txt are kept by hand: which CPU builds there are, no compiler can know.
COMPILE := $(SUPPLY)/bin/uv pip compile --quiet --python-version 3.11 --no-header $(UPGRADE)
PINNED := $(COMPILE) --universal --generate-hashes
pins: $(SUPPLY)/.ready
	$(PINNED) --no-emit-package torch --constraint requirements/torch.txt pyproject.toml --output-file requirements/run.txt
	$(PINNED) --constraint requirements/run.txt --group test --group lint --output-file requirements/dev.txt
	$(PINNED) --constraint requirements/run.txt --group supply --output-file requirements/supply.txt
	$(PINNED) --constraint requirements/run.txt --group fuzz --output-file requirements/fuzz.txt
	$(COMPILE) --resolution lowest-direct --python-platform linux --no-annotate \
		--no-emit-package torch --constraint requirements/torch.txt --all-extras --group test \
		pyproject.toml --output-file requirements/lowest.txt

# Asks PyPI for known vulnerabilities. No answer is a failure too, or a green line would lie;
# without STRICT it is only told.
STRICT := --strict
audit: $(SUPPLY)/.ready
	$(SUPPLY)/bin/pip-audit $(STRICT) --disable-pip --no-deps $(addprefix --requirement ,\
		$(addprefix requirements/,$(addsuffix .txt,run torch dev fuzz supply)))

# What a run needs, as CycloneDX; no dates, so the same pins have the same bytes.
sbom: $(SUPPLY)/.ready
	mkdir -p dist
	cat requirements/run.txt requirements/torch.txt | $(SUPPLY)/bin/cyclonedx-py requirements - \
		--pyproject pyproject.toml --output-reproducible --output-file dist/sbom.cdx.json
	@echo dist/sbom.cdx.json

clean:
	rm -rf .venv-bench .venv-fuzz $(LOWEST) $(SUPPLY) $(VENV) build dist *.egg-info
