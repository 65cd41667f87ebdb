# Everything a person or CI does with this project. `make` alone says what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTOC_VENV := $(VENV)/protoc
PROTO_FILES := $(wildcard protos/taas/v1/*.proto)
# The tests start hundreds of processes; without compiled bytecode each compiles its code anew.
export PYTHONDONTWRITEBYTECODE :=

help:  ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

RING := trainer/ring/ring.so

install: $(STAMP) $(RING)  ## Make .venv with everything; the CLI is .venv/bin/taas

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "taas needs Python 3.11 or newer; set PYTHON=/path/to/python")'
	$(PYTHON) -m venv $(VENV)
	# The lock file is complete; what packages ask for beyond it is not wanted, see pyproject.toml.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

$(RING): $(wildcard trainer/ring/*.c trainer/ring/*.h) | $(STAMP)
	@$(BIN)/python -m tools.native

demo: install  ## Train LeNet-5 on MNIST with two workers here, then classify a picture
	$(BIN)/taas run examples/mnist_lenet5 --workers 2 --to build/demo
	$(BIN)/taas predict build/demo/model examples/mnist_lenet5/pictures/seven.png

check: install  ## Format, lint, types, import contracts, protos, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory check-protos
	$(BIN)/python -m tools.crd --check
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not training and not service and not cluster"

test: check  ## check, plus the service and real training processes
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -m "training or service"

check-protos: install  ## Lint, compatibility and drift of the wire contract
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against protos/released.binpb
	tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(MAKE) --no-print-directory protos OUT="$$tmp" && \
	for file in "$$tmp"/protos/taas/v1/*; do cmp "$$file" "protos/taas/v1/$${file##*/}" || \
	{ echo "generated code is stale: run make protos"; exit 1; }; done

INPUTS ?= 100000
OUT ?= .
protos: $(PROTOC_VENV)/.installed  ## Generate the code from protos/
	$(PROTOC_VENV)/bin/python -m grpc_tools.protoc -I . --python_out=$(OUT) --pyi_out=$(OUT) --grpc_python_out=$(OUT) $(PROTO_FILES)

# Apart from the rest: the oldest generator whose code runs with every supported protobuf, see
# docs/decisions/002-generated-code.md, needs an older protobuf than the one installed.
$(PROTOC_VENV)/.installed: $(STAMP) protos/requirements.txt
	$(PYTHON) -m venv $(PROTOC_VENV)
	$(PROTOC_VENV)/bin/pip install --quiet --disable-pip-version-check --requirement protos/requirements.txt
	touch $@

lock: install  ## Pin and hash what pyproject.toml allows
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra controller --extra serving --extra tensorboard --extra trainer --extra dev \
	  --generate-hashes --python-version 3.11 --quiet --no-emit-index-url --custom-compile-command "make lock" --output-file requirements.lock

crd: install  ## Generate the custom resource from protos/
	$(BIN)/python -m tools.crd

images: install  ## Build the images with Docker, or else with buildah
	$(BIN)/python -m tools.images

licences: install  ## List what the images hold, with licences
	$(BIN)/python -m tools.sbom licences

sbom: install  ## Write the bills of materials of the images (CycloneDX) into build/
	mkdir -p build
	for image in controller trainer serving; do $(BIN)/python -m tools.sbom $$image > build/sbom-$$image.json; done

fuzz: install  ## Look for inputs that break a reader or an RPC; INPUTS=N of each
	$(BIN)/python -m tests.fuzz --inputs $(INPUTS)

e2e: install  ## Run the tests on a real Kubernetes that they bring up (root), or on KUBECONFIG's
	$(BIN)/python -m tests.cluster test

release-protos: install  ## Take the present protos as the released ones
	$(BIN)/buf build --output protos/released.binpb

format:  ## Format and mend what can be mended by machine
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

bench: install  ## Compare the demo's training with a bare loop
	$(BIN)/python -m benchmarks.service_overhead

clean:  ## Remove what was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help install demo check test check-protos protos lock crd images licences sbom fuzz e2e release-protos format bench clean
