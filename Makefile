# make demo: the model on the sample images, without a display. make test: everything.
# Work happens in .venv; the stamps in it keep a second call quick.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PYTEST_ARGS ?=
BENCH_ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python

# What pip cannot bring: a display, OpenGL in software, and the libraries of Qt's xcb plugin.
# xkbcommon-x11 and the xcb ones: the links of libqxcb.so on Debian 12.
DISPLAY_PACKAGES := xvfb xauth libegl1 libgl1 libglx-mesa0 libgl1-mesa-dri libopengl0 libdbus-1-3 \
	libfontconfig1 libglib2.0-0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 \
	libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-sync1 libxcb-xfixes0 \
	libxcb-xinerama0 libxcb-xkb1 libxrender1

.PHONY: help
help:
	@echo 'make demo   segment the sample images into demo-output/ (in napari too, where a display is)'
	@echo 'make test   install what the tests need and run them all; PYTEST_ARGS="-k name" for some'
	@echo 'make lint   ruff and the import contracts'
	@echo 'make types  mypy'
	@echo 'make bench  the engine against torchvision, its tables into docs/performance.md (15 min); BENCH_ARGS="--quick --device cuda"'
	@echo 'make clean  remove what was built, and the caches; .venv stays'
	@echo 'PYTHON=python3.12 make ...  takes another Python for a new .venv (3.11 or later)'

.PHONY: demo
demo: $(VENV)/.installed-all
	$(VENV)/bin/napari-deeppixel demo -o demo-output $(if $(DISPLAY)$(WAYLAND_DISPLAY),--napari)

# xvfb even where a display is: tests must neither open windows there nor depend on it.
# Qt's `offscreen` is not enough: napari's canvas gets no OpenGL context from it.
.PHONY: test
test: display-packages $(VENV)/.installed-test
	QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1600x1000x24" $(PY) -m pytest $(PYTEST_ARGS)

.PHONY: lint
lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

.PHONY: types
types: $(VENV)/.installed-dev
	$(VENV)/bin/mypy

# minutes on a quiet machine; what else runs on it is measured too
.PHONY: bench
bench: $(VENV)/.installed-all
	$(PY) -m benchmarks.engine $(BENCH_ARGS)

.PHONY: dev
dev: $(VENV)/.installed-dev

.PHONY: clean
clean:
	rm -rf build dist demo-output .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# `installed-all` for users, `-test` and `-dev` on top of it
$(VENV)/.installed-all: EXTRAS := all
$(VENV)/.installed-test: EXTRAS := all,test
$(VENV)/.installed-dev: EXTRAS := dev
$(VENV)/.installed-%: $(VENV)/.created pyproject.toml hatch_build.py
	$(PY) -m pip install -e '.[$(EXTRAS)]'
	@touch $@

# Debian and Ubuntu ship Python without the module that makes environments
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed, got $$($(PYTHON) --version); try PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		$(call apt-install,$$package); \
	}
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The packages that dpkg does not have, by their own name or by one that they provide
# (libglib2.0-0 is provided by libglib2.0-0t64 since Debian 13).
.PHONY: display-packages
display-packages:
	@if ! command -v dpkg-query >/dev/null; then \
		command -v xvfb-run >/dev/null && exit 0; \
		echo "The tests need xvfb-run, Mesa's OpenGL and Qt's xcb libraries. On Debian these are:" >&2; \
		echo "$(strip $(DISPLAY_PACKAGES))" >&2; \
		echo "Please install what they are called here, then run make test again." >&2; \
		exit 1; \
	fi; \
	installed=" $$(dpkg-query -W -f '$${db:Status-Status} $${Package} $${Provides}\n' | sed -n 's/^installed //p' | tr ',\n' '  ') "; \
	missing=; \
	for package in $(DISPLAY_PACKAGES); do \
		[[ "$$installed" == *" $$package "* ]] || missing+=" $$package"; \
	done; \
	[ -z "$$missing" ] || { $(call apt-install,$$missing); }

# Installs Debian packages; an update that fails matters only if the install then fails too.
define apt-install
packages="$(1)"; \
if ! command -v apt-get >/dev/null; then \
	echo "Please install what Debian calls: $$packages" >&2; exit 1; \
fi; \
as_root=; \
if [ "$$(id -u)" != 0 ]; then \
	command -v sudo >/dev/null || { echo "Please install as root: apt-get install $$packages" >&2; exit 1; }; \
	as_root=sudo; \
fi; \
echo Installing Debian packages: $$packages; \
$$as_root apt-get update || echo "apt-get update failed; trying with the lists at hand" >&2; \
$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$packages
endef
