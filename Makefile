# Every target makes the environment it needs. The stamp inside .venv is touched last, so an
# interrupted install is simply done again.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
RUNS ?= runs

.PHONY: demo test test-lowest test-newest triton pages lint docs bench gpu wheels clean

demo: $(STAMP)
	$(BIN)/python -m experiments.evaluate_policy --problem MountainCar-v0 \
		--rule tdc td tdrc generalized --head-step 0.1 --auxiliary-step 0.0003 \
		--body-step 0.0001 --measure-every 400 --out $(RUNS)/demo --overwrite

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

# With the lowest versions that setup.cfg promises, in an environment of its own.
LOWEST := .venv-lowest
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python tests/lowest_versions.py experiments data logs atari minatar minigrid \
		sb3 distributed notebook dev > $(LOWEST)/versions.txt
	$(LOWEST)/bin/pip install --quiet --requirement $(LOWEST)/versions.txt
	$(LOWEST)/bin/python -m pytest --numprocesses auto --dist worksteal

# With the newest versions that the index has, whatever constraints.txt says.
NEWEST := .venv-newest
test-newest:
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/pip install --quiet --upgrade --editable '.[experiments,data,logs,atari,minatar,minigrid,mujoco,sb3,distributed,notebook,dev]'
	$(NEWEST)/bin/python -m pytest --numprocesses auto --dist worksteal

# Every rule with every optimiser and both batches, for a GPU: needs a build of torch with CUDA and
# no GPU, and takes some ten minutes. All are skipped elsewhere.
triton: $(STAMP)
	$(BIN)/python -m pytest -m triton tests/neural_tdc/compiled/test_triton.py

# Every command of every page, with the sizes of tests/page_sizes.py: some twenty minutes.
pages: $(STAMP)
	$(BIN)/python -m pytest -m pages --capture=no tests/experiments/test_page_commands.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/site
	@echo "open docs/site/index.html"

bench: .venv/installed-bench
	$(BIN)/python -m benchmarks.learner
	$(BIN)/python -m benchmarks.jax_peer
	$(BIN)/python -m benchmarks.commands

gpu: $(STAMP)
	$(BIN)/python -m benchmarks.gpu

# For a machine without an index that has torch, numpy, scipy, matplotlib, tensorboard and pytest.
wheels:
	$(PYTHON) -m pip download --quiet --no-deps --only-binary :all: --python-version 3.12 \
		--constraint constraints.txt --dest $(RUNS)/wheels \
		jaxtyping wadler-lindig beartype hypothesis sortedcontainers tqdm \
		gymnasium farama-notifications cloudpickle ale-py mlxtend minatar

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[experiments,data,logs,atari,minatar,minigrid,mujoco,sb3,distributed,dev]'
	touch $(STAMP)

.venv/installed-bench: $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

.venv/installed-docs: $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv .venv-lowest .venv-newest runs build docs/site docs/reference *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
