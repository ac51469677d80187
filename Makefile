# Every target says what it does; `make` lists them.

GOTESTSUM   := gotest.tools/gotestsum@v1.13.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
COMPOSE     := docker compose

# What `go install` would do, minus what differs between machines.
GO_BUILD := CGO_ENABLED=0 go build -trimpath

# Modules of their own, so that what they need stays out of the product.
MODULES := deploy/postgres/download deploy/compose/check pkg/cell/kms/awskms pkg/cell/kms/gcpkms

# What workers and clients do with cells, and what opens their keys; stock Tink, which is compared with, does not work in
# that mode. Tests of pkg/cell and of a whole installation start themselves again in it.
FIPS := ./pkg/transform ./pkg/client ./worker/...
# Of the engine's tests those that seal, open and compare; how it claims, plans and splits is the same in any mode.
FIPS_ENGINE := Every|Cells|Sealed|Scheme|Reverse|Rotation|ForeignValuesOf|ForeignColumns|ForeignRow|Digest|Nonces

.DEFAULT_GOAL := help
.PHONY: help demo test build build-kms bench bench-cell fips fuzz mutate lint up down clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## encrypt a live table before your eyes, on private servers (DEMO_ROWS, DEMO_DATABASE_URL, DEMO_INSTALL)
	@programs=$$([ -n "$$DEMO_DATABASE_URL" ] || deploy/postgres/ensure.sh) && CIPHERFLEET_PG_BINDIR=$$programs bin/cipherfleet demo $(DEMO_FLAGS)

test: ## run every test, on real servers; ends with a count (PKG, SEEDS)
	@programs=$$(deploy/postgres/ensure.sh) && node=$$(deploy/node/ensure.sh) && mkdir -p build && CIPHERFLEET_PG_BINDIR=$$programs CIPHERFLEET_NODE=$$node \
		go run $(GOTESTSUM) --format pkgname --jsonfile build/test.json --raw-command \
		--post-run-command=.ci/count -- .ci/gotest $(PKG)

build: ## build both programs into bin/
	@$(GO_BUILD) -o bin/cipherfleet ./coordinator
	@$(GO_BUILD) -o bin/cipherfleet-worker ./worker

build-kms: ## build both programs with the keys of AWS KMS into bin/aws-kms/, with those of Cloud KMS into bin/gcp-kms/
	@cd pkg/cell/kms/awskms && $(GO_BUILD) -o $(CURDIR)/bin/aws-kms/ ./cipherfleet ./cipherfleet-worker
	@cd pkg/cell/kms/gcpkms && $(GO_BUILD) -o $(CURDIR)/bin/gcp-kms/ ./cipherfleet ./cipherfleet-worker

bench: build ## measure the fleet against the ceiling; writes build/bench.json
	@$(GO_BUILD) -o bin/loadtest ./loadtest
	@programs=$$(deploy/postgres/ensure.sh) && mkdir -p build && CIPHERFLEET_PG_BINDIR=$$programs bin/loadtest bench --out build/bench.json

bench-cell: ## measure seal, open and re-encrypt beside the standard library's AES-256-GCM, in turns: medians and ratios
	@echo "goals for values of 24 bytes: seal-ratio 4.5, reencrypt-ratio 6; GOGC is what the programs set"
	@GOGC=400 go test -run '^$$' -bench 'BesideStandard|^Benchmark(StandardGCM|Seal|Open|SealAndCheck)$$' -benchmem ./pkg/cell
	@programs=$$(deploy/postgres/ensure.sh) && CIPHERFLEET_PG_BINDIR=$$programs GOGC=400 go test -run '^$$' -bench . -benchmem ./pkg/client

fips: ## run the paths of workers and clients where only approved modes may run (GODEBUG=fips140=only)
	@programs=$$(deploy/postgres/ensure.sh) && CIPHERFLEET_PG_BINDIR=$$programs GODEBUG=fips140=only go test -count=1 $(FIPS)
	@programs=$$(deploy/postgres/ensure.sh) && CIPHERFLEET_PG_BINDIR=$$programs GODEBUG=fips140=only go test -count=1 -timeout 30m -run '$(FIPS_ENGINE)' -skip ValuesOfOthers ./pkg/backfill/...
	@GODEBUG=fips140=only go test -count=1 -skip StockTink ./pkg/cell/kms
	@for kind in awskms gcpkms; do (cd pkg/cell/kms/$$kind && GODEBUG=fips140=only go test -count=1 ./...) || exit 1; done

fuzz: ## run every fuzz target for a while (FUZZTIME, default 60s each)
	@.ci/fuzz $(or $(FUZZTIME),60s)

mutate: ## take away each guard in turn and say which tests notice (minutes)
	@programs=$$(deploy/postgres/ensure.sh) && CIPHERFLEET_PG_BINDIR=$$programs .ci/mutate

lint: ## formatting, vet, staticcheck, tidy modules
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; }
	@go vet ./...
	@go run $(STATICCHECK) ./...
	@go mod tidy -diff
	@go mod verify
	@for module in $(MODULES); do (cd $$module && go vet ./... && go mod tidy -diff) || exit 1; done

up: ## start the compose stack: Postgres, NATS, Jaeger, a coordinator, workers (WORKERS)
	@deploy/compose/env.sh .env
	@$(COMPOSE) up --build --detach --scale worker=$(or $(WORKERS),2)

down: ## stop the compose stack; its volumes stay (make down DOWN=--volumes removes them)
	@$(COMPOSE) down $(DOWN)

clean: ## remove what the other targets made
	@rm -rf bin build
