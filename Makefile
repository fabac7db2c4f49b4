# Everything runs in .venv, made on first use. `make help` lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SET ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo train generate calibrate score share register promote models check-data doctor ui test test-long test-slow test-faults test-server check format bench gpu-check docs wheelhouse lock sbom test-oldest coverage mutate guards fuzz clean

help: ## list the targets
	@echo "make TARGET [DATA=scans] [MODEL=folder or models:/name@alias] [OUT=folder] [SET='--set key=value ...']"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(READY) ## install into .venv, once

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## the whole pipeline, some minutes on two cores; DATA=folder for scans of your own
ifdef DATA
	$(BIN)/medgan run demo_own --data "$(DATA)" -o "$(or $(OUT),runs/demo-own)" $(SET)
else
	$(BIN)/medgan run demo -o "$(or $(OUT),runs/demo)" $(SET)
endif

train: $(READY) ## train on DATA into OUT; CONFIG=preset or YAML
	$(BIN)/medgan train $(or $(CONFIG),train) --data "$(call need,DATA)" $(if $(OUT),-o "$(OUT)") $(SET)

generate: $(READY) ## write N synthetic scans from MODEL into OUT
	$(BIN)/medgan generate "$(call need,MODEL)" -n $(or $(N),8) -o "$(or $(OUT),runs/generate)" $(SET)

calibrate: $(READY) ## calibrate MODEL on the healthy scans in DATA
	$(BIN)/medgan calibrate "$(call need,MODEL)" "$(call need,DATA)" -o "$(or $(OUT),runs/calibrate)" $(SET)

score: $(READY) ## score the scans in DATA with MODEL into OUT
	$(BIN)/medgan score "$(call need,MODEL)" "$(call need,DATA)" -o "$(or $(OUT),runs/score)" $(SET)

share: $(READY) ## write MODEL without its discriminator into OUT, to hand on
	$(BIN)/medgan share "$(call need,MODEL)" -o "$(or $(OUT),runs/share)" $(SET)

register: $(READY) ## register MODEL in MLflow under NAME and ALIAS
	$(BIN)/medgan register "$(call need,MODEL)" --name $(or $(NAME),medgan) --alias $(or $(ALIAS),challenger) $(if $(OUT),-o "$(OUT)") $(SET)

promote: $(READY) ## let the challenger of NAME through the gate, measured on DATA
	$(BIN)/medgan promote $(or $(NAME),medgan) --data "$(call need,DATA)" -o "$(or $(OUT),runs/promote)" $(SET)

models: $(READY) ## list registered models
	$(BIN)/medgan models -o "$(or $(OUT),runs/models)" $(SET)

check-data: $(READY) ## validate the scans in DATA
	$(BIN)/medgan check "$(call need,DATA)" -o "$(or $(OUT),runs/check)" $(SET)

doctor: $(READY) ## check whether this machine can run medgan
	$(BIN)/medgan doctor -o "$(or $(OUT),runs/latest)" $(SET)

ui: $(READY) ## open MLflow on 127.0.0.1; STORE=runs/mlflow.db
	MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///$(abspath $(or $(STORE),runs/mlflow.db))

# Bytecode is kept even where the environment says otherwise: compiling and rewriting everything in
# each process of a test run takes minutes of processor time.
test: $(READY) ## run the tests; real scans are found through MEDGAN_DATA
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-long: $(READY) ## run the tests of whole studies, which make test leaves out
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "long and not slow and not gpu"

test-slow: $(READY) ## run the tests that take minutes
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -m slow --jaxtyping-packages=medgan,beartype.beartype

test-faults: $(READY) ## run the tests of the table of faults, slow ones too, and write its page
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile \
		-m "fault and not gpu" --faults "$(or $(OUT),docs/reference/faults.md)"

test-server: $(READY) ## test against PostgreSQL, S3 and MLflow with accounts; needs Debian's postgresql
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { echo "PostgreSQL is missing: apt-get install postgresql"; exit 4; }
	$(BIN)/python -m pytest -q -m slow tests/tracking/test_real_server.py

check: $(READY) ## ruff, types, layers, weak spots
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/bandit -qq --configfile pyproject.toml --recursive medgan deploy

format: $(READY) ## format and fix with ruff
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## speed and memory of the presets, and of other programs; scans of DATA for these
	$(BIN)/medgan bench speed phantoms ixi_brain --steps 30
	$(BIN)/medgan bench speed ixi_brain_2mm
	$(BIN)/medgan bench speed msd_hippocampus --baselines --steps 40
	$(BIN)/medgan bench others msd_hippocampus -o "$(or $(OUT),runs/others)" $(if $(DATA),--data "$(DATA)")

gpu-check: $(READY) ## ten minutes on a machine with a GPU: tests, speed, memory, a training of DATA
	@mkdir -p "$(or $(OUT),runs/gpu-check)"
	-$(BIN)/python -m pytest -q -m gpu tests/device --junitxml="$(or $(OUT),runs/gpu-check)/tests.xml"
	$(BIN)/medgan bench device -o "$(or $(OUT),runs/gpu-check)" $(if $(DATA),--data "$(DATA)")

docs: $(READY) ## write the reference pages from the code
	$(BIN)/python docs/make_reference.py

wheelhouse: $(READY) ## wheels of everything into OUT, for machines without internet; TORCH=cpu, cu128 ... EXTRAS=dicom,ray
	$(BIN)/python -m pip wheel --no-build-isolation --wheel-dir "$(or $(OUT),wheelhouse)" --constraint constraints.txt \
		$(if $(TORCH),--extra-index-url https://download.pytorch.org/whl/$(TORCH)) '.$(if $(EXTRAS),[$(EXTRAS)])' pip
	cp constraints.txt "$(or $(OUT),wheelhouse)/"
	$(BIN)/python deploy/hash_wheels.py "$(or $(OUT),wheelhouse)" --lock deploy/requirements.lock

RUNTIME := dicom export gpu pacs ray serve server sweep text
LOCKING := $(BIN)/uv pip compile pyproject.toml --quiet --no-emit-index-url --no-annotate --python-version 3.11 $(foreach extra,$(RUNTIME),--extra $(extra))

lock: $(READY) ## write deploy/requirements.lock, with hashes, from constraints.txt, and the oldest versions
	$(LOCKING) --universal --generate-hashes --constraint constraints.txt \
		--custom-compile-command "make lock" --output-file deploy/requirements.lock
	$(LOCKING) --resolution lowest-direct --custom-compile-command "make lock" --output-file deploy/oldest.txt

sbom: $(READY) ## write the bill of materials of what is installed, CycloneDX, to OUT; WHEELS=folder for hashes
	$(BIN)/python deploy/sbom.py "$(or $(OUT),sbom.cdx.json)" $(if $(WHEELS),--wheels "$(WHEELS)") --extra $(or $(EXTRAS),$(RUNTIME))

# 8 GB in a folder of its own: PyTorch comes with CUDA where nothing else is named.
test-oldest: $(READY) ## test the oldest versions that pyproject.toml allows, in an environment of their own
	$(PYTHON) -m venv .venv.oldest
	$(BIN)/uv pip install --quiet --python .venv.oldest/bin/python -r deploy/oldest.txt $(OLDEST_TOOLS)
	$(BIN)/python -m hatchling build --target wheel --directory dist/oldest
	$(BIN)/uv pip install --quiet --python .venv.oldest/bin/python --no-deps --reinstall dist/oldest/*.whl
	OMP_NUM_THREADS=1 .venv.oldest/bin/python deploy/check_installed.py

OLDEST_TOOLS := beartype hatchling hypothesis 'pytest<9' pytest-xdist

coverage: $(READY) ## run the tests and write how many lines and branches of medgan/ they reach
	@mkdir -p .coverage
	-PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -q -n 2 --dist loadfile -m "not slow and not gpu"
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --sort=cover | tee .coverage/report.txt

mutate: $(READY) ## change lines of the losses, maps, calibration, volume, checks: how many do tests notice? hours
	$(BIN)/python -m pip install --quiet --constraint constraints.txt cosmic-ray
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python docs/scripts/mutation.py -o "$(or $(OUT),mutation.json)"

guards: $(READY) ## remove each guard of the table of faults in turn, and write which test noticed
	nice -n 19 $(BIN)/python docs/scripts/remove_guards.py --page docs/reference/guards.md

fuzz: $(READY) ## let a fuzzer look for files that break a reader, an hour by default: MINUTES=
	$(BIN)/python -m pip install --quiet --constraint constraints.txt atheris
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python docs/scripts/fuzz.py --minutes $(or $(MINUTES),60) --json $(or $(OUT),runs/fuzz)/fuzz.json

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache

need = $(or $($(1)),$(error give $(1)=...))
