# Every target is one line of Python in .venv, which `make install` creates. PATH stays as it is.
PYTHON ?= python3
CONFIG ?= base
SET ?=
BOARD ?= ulx3s_85f
TORCH_INDEX ?=
VENV := .venv/bin/python
INSTALLED := .venv/installed
# PyTorch has an environment of its own, so that `make test` runs without it.
TORCH := .venv-torch/bin/python
TORCH_INSTALLED := .venv-torch/installed

.DEFAULT_GOAL := help
.PHONY: help install run verilog bitstream test test-torch regress fuzz soak prove mutate cosim lint bench area docs site clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

install: $(INSTALLED) ## Create .venv with everything that run, test and lint need

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(VENV) -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@touch $@

run: $(INSTALLED) ## Attention of a real layer on the emitted Verilog, checked and measured
	$(VENV) -m fusemax run --config $(CONFIG) $(SET:%=--set %) -o build/run

verilog: $(INSTALLED) ## Write Verilog, its page, FuseSoC core and C driver to build/verilog/NAME (CONFIG=base SET="rows=5 columns=7")
	$(VENV) -m fusemax verilog --config $(CONFIG) $(SET:%=--set %)

bitstream: CONFIG := tiny
bitstream: $(INSTALLED) ## Bitstream in build/board/BOARD-NAME (BOARD=ulx3s_85f CONFIG=tiny SET="query_tiles=2")
	$(VENV) -m fusemax board build $(BOARD) --config $(CONFIG) $(SET:%=--set %)

test: $(INSTALLED) ## All tests
	$(VENV) -m pytest -n auto --dist worksteal

regress: $(INSTALLED) ## The random problems in full numbers, on all cores; resumes, and writes benchmarks/results/regress.json
	$(VENV) benchmarks/regress.py
	FUSEMAX_PROBLEMS=2000 FUSEMAX_RTL_PROBLEMS=200 $(VENV) -m pytest --timeout 3600 tests/sw/api/test_features.py tests/cosim/test_features.py \
		tests/sw/api/test_isolation.py tests/cosim/test_isolation.py

$(TORCH_INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-torch
	$(TORCH) -m pip install --quiet --disable-pip-version-check --no-compile torch --constraint constraints.txt $(TORCH_INDEX:%=--index-url %)
	$(TORCH) -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[cli,cuda,explore,sim,transformers]' \
		hypothesis pytest pytest-timeout pytest-xdist sybil --constraint constraints.txt
	@touch $@

test-torch: $(TORCH_INSTALLED) ## Tests with PyTorch, Triton and transformers, in .venv-torch (TORCH_INDEX=URL of an index with PyTorch's small CPU build)
	FUSEMAX_CUDA_PROBLEMS=$${FUSEMAX_CUDA_PROBLEMS:-1} $(TORCH) -m pytest -n auto --dist worksteal \
		tests/sw/torch tests/sw/transformers tests/sw/cuda tests/docs/test_snippets.py

fuzz: $(INSTALLED) ## A million wrong inputs: cascades, programs, frames, descriptors, command lines (FUSEMAX_FUZZ=170000 each)
	FUSEMAX_FUZZ=$${FUSEMAX_FUZZ:-170000} $(VENV) -m pytest -n auto --timeout 36000 tests/fuzz

soak: $(INSTALLED) ## An hour of random calls from 8 threads on model and Verilog (SOAK_SECONDS=3600)
	$(VENV) benchmarks/soak.py --seconds $${SOAK_SECONDS:-3600}

prove: $(INSTALLED) ## What is stated of the hardware's blocks, by solvers; then each statement on hardware with a mistake
	$(VENV) tests/hw/proofs/prove.py
	$(VENV) tests/hw/proofs/prove.py --breaks

mutate: $(INSTALLED) ## 2000 changes of the code, one at a time: does a test fail? Resumes; writes benchmarks/results/mutants.jsonl
	$(VENV) benchmarks/mutate.py

cosim: $(INSTALLED) ## Only the tests that simulate the emitted Verilog
	$(VENV) -m pytest -m cosim

lint: $(INSTALLED) ## Style and types of the Python code
	$(VENV) -m ruff check
	$(VENV) -m ruff format --check
	$(VENV) -m basedpyright

bench: $(INSTALLED) ## Measure cycles and utilisation
	$(VENV) -m fusemax bench -o benchmarks/results/bench.json
	$(VENV) benchmarks/report.py

area: $(INSTALLED) ## Area and clock of PE, array and machine on an ECP5, by Yosys and nextpnr
	$(VENV) benchmarks/area.py
	$(VENV) benchmarks/area_parts.py
	$(VENV) benchmarks/explore.py

docs: $(INSTALLED) ## Write the generated files: docs/reference/registers.md, pictures, tests/golden/fusemax.h
	$(VENV) -m fusemax.spec.export docs/reference/registers.md tests/golden/fusemax.h
	$(VENV) examples/schedule.py docs/figures/schedule.png > /dev/null
	$(VENV) docs/figures/block_diagram.py
	$(VENV) -m fusemax paper --json -o docs/measurements/paper > /dev/null

site: $(INSTALLED) ## The pages and an API reference as a site in build/site; warnings are errors
	rm -rf build/api
	$(VENV) -m sphinx --builder html --conf-dir docs --doctree-dir build/doctrees --fail-on-warning --keep-going --quiet . build/site

clean: ## Remove what was built, .venv included
	rm -rf .venv .venv-torch build dist .pytest_cache .ruff_cache .hypothesis
