# Everything runs in .venv, which `make setup` makes; nothing else on the machine is touched.
PYTHON ?= python3
VENV ?= .venv
MODELS ?= .models
FINETUNED ?= .finetuned
BIN := $(VENV)/bin

.PHONY: setup test test-formats test-export lint fmt check docs demo soak zoos fetch finetune clean \
	bench bench-lossless bench-quant bench-lowrank bench-programs bench-quality bench-stats \
	bench-budgets bench-formats bench-run bench-structure bench-quality-budgets bench-menu

NATIVE := bale/compressors/kernels/native

$(VENV)/ready: pyproject.toml hatch_build.py $(wildcard $(NATIVE)/*.[ch]) $(NATIVE)/build.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable . --group test --group lint
	$(BIN)/python -m compileall -q bale  # pip does so for all but editable installations
	touch $@

setup: $(VENV)/ready

test: $(VENV)/ready  ## installs what the tests need and passes them, two at a time
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses auto --maxprocesses 2 --dist worksteal  # keeps compiled tests

.venv-test-formats/ready: pyproject.toml
	$(PYTHON) -m venv .venv-test-formats
	.venv-test-formats/bin/python -m pip install --quiet --upgrade pip
	.venv-test-formats/bin/python -m pip install --quiet torch==2.13.0
	.venv-test-formats/bin/python -m pip install --quiet --editable . --group test torch==2.13.0 h5py keras tensorflow-cpu \
		onnx onnxruntime openvino
	touch $@

test-formats: .venv-test-formats/ready  ## the tests of files that h5py, Keras, TensorFlow, ONNX and OpenVINO make, which others skip; a gigabyte is installed
	.venv-test-formats/bin/python -m pytest tests/io/sources/test_made_by_libraries.py tests/io/sources/test_made_by_exporters.py

.venv-test-export/ready: pyproject.toml
	$(PYTHON) -m venv .venv-test-export
	.venv-test-export/bin/python -m pip install --quiet --upgrade pip
	.venv-test-export/bin/python -m pip install --quiet torch==2.13.0
	.venv-test-export/bin/python -m pip install --quiet --editable . --group test torch==2.13.0 transformers==5.24.0 \
		compressed-tensors==0.20.0 bitsandbytes==0.50.2 peft==0.21.2 accelerate==1.15.0 gguf==0.19.0
	touch $@

test-export: .venv-test-export/ready  ## loads exported models by the libraries that they are for, which other tests skip; a gigabyte is installed
	.venv-test-export/bin/python -m pytest tests/export/*_library.py

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/ready  ## writes the pages that are generated
	$(BIN)/python scripts/docs.py

check: lint  ## all that must hold before a change is published
	$(BIN)/python scripts/docs.py --check
	$(MAKE) test

fetch: $(VENV)/ready  ## brings the public checkpoints of the benchmarks
	$(BIN)/python scripts/fetch_models.py $(MODELS)

demo:  ## installs bale and runs its main job on a real checkpoint
	PYTHON=$(PYTHON) MODELS=$(MODELS) sh scripts/demo.sh

.venv-finetune/ready:
	$(PYTHON) -m venv .venv-finetune
	.venv-finetune/bin/python -m pip install --quiet torch==2.13.0
	.venv-finetune/bin/python -m pip install --quiet transformers==5.23.0 safetensors numpy ml_dtypes
	touch $@

finetune: fetch .venv-finetune/ready  ## really fine-tunes MiniLM, for the bench of differences; half an hour
	.venv-finetune/bin/python scripts/finetune.py $(FINETUNED) --models $(MODELS)

bench: fetch  ## measures sizes and speeds, and writes docs/benchmarks.md
	$(BIN)/python -m bench --models $(MODELS)

bench-lossless: fetch  ## the lossless sections of it only, with ZipNN, OpenZL, zstd and blosc2 beside bale
	$(BIN)/python -m bench --models $(MODELS) --only sizes --only codec --only peers

bench-lowrank: fetch  ## the section on low rank only; uses the fine-tunes that there are
	$(BIN)/python -m bench --models $(MODELS) --finetuned $(FINETUNED) --only lowrank

bench-quant: fetch  ## quantization, with ggml, bitsandbytes, HQQ and nncodec beside bale; 15 minutes
	$(BIN)/python -m bench --models $(MODELS) --only quantization --only trellis --only quantizers

bench-budgets: fetch  ## how near budgets come to their limits, and their cost; 17 minutes
	$(BIN)/python -m bench --models $(MODELS) --only budgets

bench-structure: $(VENV)/ready  ## how long files of 100,000 tensors take to read; 10 minutes
	$(BIN)/python -m bench --only structure

bench-run: $(VENV)/ready  ## loading models from archives, and weights that stay compressed; 5 minutes
	$(BIN)/python -m bench --only running

bench-formats: fetch  ## other formats of checkpoints: sizes, and whether their libraries load them again; 10 minutes
	$(BIN)/python -m bench --models $(MODELS) --only formats --only kinds

bench-programs: fetch  ## whole programs by pipeline, with zstd, ZipNN and quantizers beside bale; more than 20 minutes
	$(BIN)/python -m bench --models $(MODELS) --only programs

.venv-quality/ready: pyproject.toml
	$(PYTHON) -m venv .venv-quality
	.venv-quality/bin/python -m pip install --quiet torch==2.13.0
	.venv-quality/bin/python -m pip install --quiet --editable . torch==2.13.0 \
		transformers==5.23.0 scikit-learn scikit-image espeakng-loader efficientnet-lite-pytorch gguf==0.19.0 accelerate
	touch $@

bench-quality: fetch .venv-quality/ready  ## what quantization does to models, and writes docs/quality.md; 40 minutes
	.venv-quality/bin/python -m bench.quality --models $(MODELS)

bench-menu: fetch .venv-quality/ready  ## the figures that `bale codecs` begins with; 2 minutes
	.venv-quality/bin/python -m bench.quality.menu --models $(MODELS)

bench-stats: fetch .venv-quality/ready  ## its section on statistics of inputs only; 3 minutes
	.venv-quality/bin/python -m bench.quality --models $(MODELS) --weighted

bench-quality-budgets: fetch .venv-quality/ready  ## its section on budgets only; half an hour
	.venv-quality/bin/python -m bench.quality --models $(MODELS) --budgets

zoos: fetch  ## goes through four zoos as people do, and writes docs/zoos.md
	$(VENV)/bin/python scripts/zoos.py

soak: $(VENV)/ready  ## the long form of the checks
	$(BIN)/python -m pytest -m soak

clean:
	rm -rf $(VENV) .venv-demo .venv-peers .venv-peers-quant .venv-finetune .venv-quality .venv-formats .venv-test-formats .venv-test-export .pytest_cache .mypy_cache .ruff_cache .hypothesis
