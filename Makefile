# Slipway: two commands matter, `make run` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

DATA        ?= $(CURDIR)/.slipway
PORT        ?= 8700
ROUTER_PORT ?= 8780
BIN         := $(CURDIR)/bin
ENGINE      := $(BIN)/engine
GO          ?= go
# Two packages at a time is what the smallest machine that we build on carries.
TESTFLAGS   ?=
export SLIPWAY_ENGINE := $(ENGINE)
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

run: ## install, build, start, deploy the sample, print its URL; Ctrl-C stops everything
	@DATA='$(DATA)' PORT='$(PORT)' ROUTER_PORT='$(ROUTER_PORT)' bash deploy/run.sh

down: ## stop whatever a `make run` left (data stays under DATA=)
	@test -x $(BIN)/slipway || $(MAKE) --no-print-directory build
	@$(BIN)/slipway down --data '$(DATA)'

install: ## install the Debian packages that are missing (root)
	@bash deploy/install.sh

engine: ## build containerd, runc, buildkitd, CNI plugins and the S3 gateway at their pinned versions
	@bash deploy/engine/build.sh $(ENGINE)

build: ## build slipway, its init and its log sink into bin/
	@mkdir -p $(BIN)
	@CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/...

test: ## everything: lint, unit, containerd, BuildKit, PostgreSQL, end to end, a slice of kills
	@bash deploy/test.sh

unit: ## what needs no root and no daemon, with the race detector
	@$(GO) test -race $(TESTFLAGS) $$(bash deploy/packages.sh unit)

lint: ## gofmt, vet, staticcheck, import direction, package docs
	@bash deploy/lint.sh

e2e: build engine ## end-to-end tests only
	@$(GO) test -count=1 -timeout 25m $(TESTFLAGS) ./e2e/...

test-kill: build engine ## the long version of the kill tests (KILLS=1000)
	@SLIPWAY_KILLS=$(or $(KILLS),1000) $(GO) test -count=1 -timeout 8h -run 'TestKill' -v ./e2e/...

bench: bench-deploy ## every benchmark

bench-deploy: build engine ## deploy, redeploy, rollback, scale, memory: figures against their yardsticks
	@$(GO) run ./bench/deploy

golden: ## refresh golden files; review the diff
	@$(GO) test ./buildpacks/ ./cmd/slipway -update

clean: ## remove what was built here (not the data folder)
	rm -rf $(BIN) bench/out

.PHONY: help run down install engine build test unit lint e2e test-kill bench bench-deploy golden clean
