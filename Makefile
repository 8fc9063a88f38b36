# Each target sets up what it needs from a bare checkout: a virtual environment in .venv, and for the
# tests the system's packages where we may install them.
#
#   make demo       a server, two people and a download over a bad link, on this machine
#   make run        a server that shares the folder files/; ARGS="..." adds options
#   make test       style, types and all tests
#   make test-all   the tests on every Python from 3.10 on that is found
#   make bench      the benchmarks; about an hour, each can be run alone
#   make lint       style and types only
#   make clean      removes all that make made

VENV := .venv
BIN := $(VENV)/bin

CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python3.10 \
    $(wildcard $(HOME)/.pyenv/versions/3.*/bin/python3)
# Prints "3.11" or the like; fails if that is too old.
VERSION_OF := -c 'import sys; sys.version_info < (3, 10) and sys.exit(1); print("%d.%d" % sys.version_info[:2])'
# Rather one that has Tk, which draws the window; else the system's, for which apt-get has it.
ifndef PYTHON
PYTHON := $(shell for tk in 'import tkinter' ''; do for python in \
    $$([ "$$tk" ] || ! command -v apt-get >/dev/null || echo /usr/bin/python3) $(CANDIDATES); do \
    "$$python" $(VERSION_OF) >/dev/null 2>&1 && "$$python" -c "$$tk" 2>/dev/null && \
    { command -v "$$python"; break 2; }; done; done)
endif

# $(call install,PACKAGE,WHY): by apt-get if we are root and it exists, else say what to do.
install = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
        echo "Installing $(1): $(2)"; \
        { apt-get -q update && DEBIAN_FRONTEND=noninteractive \
          apt-get -q install -y --no-install-recommends $(1); } >/dev/null; \
    else \
        echo "Missing: $(2). Install it first (on Debian and Ubuntu: apt-get install $(1))." >&2; \
        false; \
    fi

.PHONY: demo run test test-all unit bench lint clean system
.DELETE_ON_ERROR:

demo: $(VENV)/ready
	$(BIN)/chatbox demo

run: $(VENV)/ready
	$(BIN)/twistd --nodaemon --pidfile= chatbox --files files $(ARGS)

test: lint unit

# Both runners, since both are promised: pytest runs everything, trial what needs no pytest, on all
# processors, which nothing that it runs minds.
unit: $(VENV)/ready-to-test system
	CHATBOX_SCREENSHOTS=$(CURDIR)/build/screenshots $(BIN)/python -m pytest
	$(BIN)/trial -j $$(nproc) --reporter=text tests

lint: $(VENV)/ready-to-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test-all: lint
	@set -e; done=" "; \
	for python in $(CANDIDATES); do \
	    version=$$("$$python" $(VERSION_OF) 2>/dev/null) || continue; \
	    case "$$done" in *" $$version "*) continue;; esac; \
	    echo "=== Python $$version: $$python"; \
	    $(MAKE) --no-print-directory PYTHON="$$python" VENV=".venv-$$version" unit; \
	    done="$$done$$version "; \
	done; \
	echo "All tests passed on Python$$done"

bench: $(VENV)/ready-to-bench
	$(BIN)/python benchmarks/download.py
	$(BIN)/python benchmarks/peers/install.py
	@set -e; for program in log crash resume cluster console soak transfer fairness rows fanout; do \
	    echo "=== benchmarks/$$program.py"; $(BIN)/python benchmarks/$$program.py; \
	done

clean:
	rm -rf .venv* build dist *.egg-info _trial_temp* .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	    .fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache

# Without these the tests that need them are skipped, which counts as a failure in CI only.
system:
	@command -v nc >/dev/null || { $(call install,netcat-openbsd,nc (some tests talk through it)); } || true
	@command -v redis-server >/dev/null || \
	    { $(call install,redis-server,redis-server (the tests of the redis log start it)); } || true
	@command -v Xvfb >/dev/null && command -v xdotool >/dev/null || \
	    { $(call install,xvfb xdotool,Xvfb and xdotool (the tests of the window use it there)); } || true
	@$(BIN)/python -c 'import tkinter' 2>/dev/null || \
	    { $(call install,python3-tk,Tk for Python (it draws the window)); } || true

$(VENV)/python:
	@[ -n "$(PYTHON)" ] || { $(call install,python3 python3-venv,a Python of version 3.10 or newer); }
	@"$(or $(PYTHON),python3)" -c 'import ensurepip, venv' 2>/dev/null || \
	    { $(call install,python3-venv,the module venv of $(or $(PYTHON),python3)); }
	"$(or $(PYTHON),python3)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@touch $@

$(VENV)/ready: $(VENV)/python setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/ready-to-test: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

$(VENV)/ready-to-bench: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@
