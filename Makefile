# make demo    the main job on the pocket model, start to end
# make serve   the page and the API on this machine, until Ctrl-C
# make benchmark LFW=lfw-deepfunneled.tgz RECOGNIZER=mine.toml
#              the README's table: LFW's archive, or its folder, and the description of a face recognizer (docs/recognizers.md; several
#              with spaces between; without one dlib's, which is no result). ATTRIBUTES=FILE: LFW's attribute table. MAX_PEOPLE=2: to
#              try it out. RECIPE=recipes/curve-test.toml: another question. The same line goes on with what was stopped.
# make test    format, lint, types, tests, but those marked slow: minutes. make test SLOW=1 runs these too, as CI does
# make abuse   a longer attack than the tests': thousands of bad inputs, hundreds of kills and full disks, counted at the end;
#              fails if one is not answered by a clear error, or anything is lost. Another seed than the day's: make abuse SEED=7
# make clean   removes the environment and all caches
#
# They set up .venv in this checkout first: once, and again when pyproject.toml or constraints.txt changed.
# Another Python than the first that fits: make test PYTHON=/path/to/python

VENV := .venv
IN_VENV := $(VENV)/bin/python
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.11 python3 python3.12 python3.13 python3.14 python)
# A process on each core, which computes by one thread, and takes tests from another when it has none left.
PYTEST := --numprocesses=logical --maxprocesses=8 --dist=worksteal --durations=25 --durations-min=1 $(if $(SLOW),,-m 'not slow')
CHECKS := format lint types tests

# Settings of the caller that would reach around .venv.
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

RECIPE := recipes/quick-test.toml
MEASURED := .[fast,recognizer,report]
RUN = runs/$(notdir $(basename $(RECIPE)))$(addprefix -first-,$(MAX_PEOPLE))

.PHONY: demo serve benchmark lfw-given test abuse clean broken $(CHECKS)
demo: $(VENV)/demo.stamp
	@$(VENV)/bin/tenth demo

# Ctrl-C is how it ends.
serve: $(VENV)/serve.stamp
	@$(VENV)/bin/tenth serve || [ $$? -eq 130 ]

# What may be a path with a space in it goes through the environment; recognizers are words.
benchmark: export LFW := $(LFW)
benchmark: export ATTRIBUTES := $(ATTRIBUTES)
benchmark: lfw-given $(VENV)/benchmark.stamp
	@$(VENV)/bin/tenth data lfw "$$LFW" -o data/lfw $${ATTRIBUTES:+--attributes "$$ATTRIBUTES"} >&2
	@if [ -d "$$LFW" ]; then set -- --photos "$$LFW"; else set --; fi; \
	$(VENV)/bin/tenth experiment $(RECIPE) -o $(RUN) "$$@" $(RECOGNIZER:%=--recognizer '%') --recognizer dlib \
	    $(MAX_PEOPLE:%=--max-people %) >/dev/null
	@$(VENV)/bin/tenth report $(RUN) --summary
	@echo "All tables and images: $(RUN)/report.html" >&2

lfw-given:
	@[ -n "$$LFW" ] || { echo "LFW is not given: make benchmark LFW=lfw-deepfunneled.tgz RECOGNIZER=mine.toml." \
	    "docs/data.md says where LFW is published, docs/recognizers.md what a recognizer is." >&2; exit 1; }

# All checks run, so that one run shows all findings; the models are in the package, and no test asks the network for more.
# Types are checked while the first tests are collected.
test: export HF_HUB_OFFLINE := 1
test: export OMP_NUM_THREADS := 1
test: $(VENV)/test.stamp
	@$(MAKE) --no-print-directory --keep-going --jobs=2 $(CHECKS)

format:
	$(IN_VENV) -m ruff format --check .
lint:
	$(IN_VENV) -m ruff check .
types:
	$(IN_VENV) -m mypy
tests:
	$(IN_VENV) -m pytest $(PYTEST)

abuse: export HF_HUB_OFFLINE := 1
abuse: $(VENV)/test.stamp
	@$(IN_VENV) tests/abuse.py $(SEED)

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so an interrupted set-up goes on at the next call. An environment whose Python does not run, is too
# old or is not in an environment at all is made anew. setuptools comes first: packages that exist only as source are then
# built with the pinned one.
SOUND := import pip, sys; sys.exit(sys.version_info < (3, 11) or sys.prefix == sys.base_prefix)
BROKEN := $(shell $(IN_VENV) -c '$(SOUND)' >/dev/null 2>&1 || echo broken)
broken:

$(VENV)/demo.stamp: pyproject.toml constraints.txt $(BROKEN)
	$(call set-up,.)
	@touch $@

$(VENV)/benchmark.stamp: pyproject.toml constraints.txt $(BROKEN)
	$(call set-up,$(MEASURED))
	@touch $(VENV)/demo.stamp $@

$(VENV)/serve.stamp: pyproject.toml constraints.txt $(BROKEN)
	$(call set-up,.[server])
	@touch $(VENV)/demo.stamp $@

$(VENV)/test.stamp: pyproject.toml constraints.txt $(BROKEN)
	$(call set-up,.[dev])
	@touch $(VENV)/demo.stamp $(VENV)/serve.stamp $(VENV)/benchmark.stamp $@

define set-up
$(if $(BROKEN),@$(environment))
@echo "Installing tenth and what it needs into $(VENV), pinned by constraints.txt: some gigabytes, minutes the first time." >&2
@$(IN_VENV) -m pip install -q -c constraints.txt setuptools >&2
@$(IN_VENV) -m pip install --no-build-isolation --use-pep517 -c constraints.txt -e '$(1)' >&2
endef

define environment
for python in $(CANDIDATES); do \
    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
    echo "Making $(VENV) with $$python, $$("$$python" --version)." >&2; \
    if "$$python" -c 'import venv, ensurepip' 2>/dev/null; then exec "$$python" -m venv --clear $(VENV); fi; \
    if "$$python" -c 'import virtualenv' 2>/dev/null; then exec "$$python" -m virtualenv --clear $(VENV); fi; \
    echo "$$python cannot make environments; its module venv is needed. On Debian or Ubuntu: apt install python3-venv." >&2; \
    exit 1; \
done; \
echo "No Python of 3.11 or newer among: $(CANDIDATES). Install one, or name it: make PYTHON=/path/to/python." >&2; \
exit 1
endef
