# `make run`: the main job on a fresh machine. `make test`: everything. Each makes what it needs.
PYTHON ?= python3
RUN := .venv
DEV := .venv-dev
PIP_FLAGS := --quiet --disable-pip-version-check -c constraints.txt

.PHONY: programs pi run test unit lint bench proof search mutants build-models clean

run: $(RUN)/.ready
	$(RUN)/bin/parity run --backend librosa --runtime onnxrt

test: $(DEV)/.ready
	$(DEV)/bin/python -m pytest -n 2 --dist loadfile --ignore tests/benchmarks

unit: $(DEV)/.ready
	$(DEV)/bin/python -m pytest -n 2 -m "not slow" --ignore tests/benchmarks

lint: $(DEV)/.ready
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

bench: $(DEV)/.ready
	$(DEV)/bin/python -m pytest tests/benchmarks --benchmark-only --benchmark-disable-gc -p no:xdist -s

proof: $(DEV)/.ready
	$(DEV)/bin/python -m tests.proof

# Ten minutes: drawn recipes on every backend, and planted faults that fixed clips miss. PARITY_SEARCH_SEED=N draws others.
# Before it 1,000 examples of each test that draws.
search: $(DEV)/.ready
	HYPOTHESIS_PROFILE=nightly $(DEV)/bin/python -m pytest -n 2 -m "hypothesis and not nightly" --ignore tests/benchmarks tests
	HYPOTHESIS_PROFILE=nightly $(DEV)/bin/python -m pytest -n 2 --dist worksteal -m nightly tests

# Minutes: every operator, number and word of what judges is changed, one at a time; each time a test must fail.
mutants: $(DEV)/.ready
	$(DEV)/bin/python -m tests.mutation

# What is too large to be committed, trained on the speech in PARITY_DATA; then everything of it is compared, and its faults are planted.
build-models: $(DEV)/.ready
	$(DEV)/bin/parity models build mel40-resnet18
	$(DEV)/bin/parity run --system mel40-resnet18
	$(DEV)/bin/python -m pytest -q tests/faults/test_mel40.py -k resnet18

$(RUN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RUN)
	$(RUN)/bin/pip install $(PIP_FLAGS) -e '.[librosa,onnxrt]'
	touch $@

# torch first and by its exact pin: a plain `torch` pulls gigabytes of CUDA.
$(DEV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/pip install $(PIP_FLAGS) "$$(grep '^torch==' constraints.txt)"
	$(DEV)/bin/pip install $(PIP_FLAGS) -e '.[dev]'
	touch $@

# What tests run beside Python: a C compiler, and Octave in MATLAB's place, for dumps; Chromium for the pages; OpenSSH,
# QEMU and what makes a root file system, for devices.
programs:
	(for p in gcc octave-cli chromium ssh sshd qemu-aarch64-static mmdebstrap ip tc; do command -v $$p || exit; done) || { \
	  apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev octave chromium fonts-dejavu-core \
	  openssh-client openssh-server qemu-user-static mmdebstrap iproute2; }

# The stand-ins for a Raspberry Pi, in the user's cache: 600 MB, half a minute. As root.
pi: $(DEV)/.ready
	$(DEV)/bin/python -m parity.targets.emulated_pi

clean:
	rm -rf $(RUN) $(DEV) mutants mutants.log build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
