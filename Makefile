# Targets, each with a line of explanation, are listed by `make help`.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# What is built. VERSION is for releases; without it the binary reports the
# version of its module.
MODULE  := github.com/weightseal/weightseal
VERSION ?=
LDFLAGS := -s -w -buildid=$(if $(VERSION), -X $(MODULE)/cmd/internal/cli.releaseVersion=$(VERSION))
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

PREFIX  ?= /usr/local
DESTDIR ?=

# Third-party programs that the tests run are built from tools/ into this folder.
TOOLS      := $(shell tools/build -d)
TEST_TOOLS := crane oras registry helm3 helm4 cosign2 cosign3 krew etcd kube-apiserver
# Debian packages: Python with torch writes and loads the tests' checkpoints; the
# race detector needs a C compiler. docker and kubectl are the clients only.
TEST_PACKAGES := python3 python3-torch python3-numpy python3-h5py python3-joblib jq xz-utils 7z:p7zip-full,7zip \
	openssl procps tmux bash-completion git gnupg pre-commit shellcheck docker:docker-cli,docker.io kubectl:kubernetes-client,kubectl
RACE_PACKAGES := gcc libc6-dev
export WEIGHTSEAL_TOOLS := $(TOOLS)

GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

PKG         ?= ./...
FUZZTIME    ?= 30s
TESTFLAGS   ?=
TESTTIMEOUT ?= 40m

# Go takes the version of a checkout from its VCS, and fails in one that belongs
# to another user. Nothing here wants that stamp.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)

##@ Use

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## "; print "usage: make TARGET [VARIABLE=VALUE...]" } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: build ## Build, then take a pickled model through the whole line on an embedded registry
	@bin/weightseal demo

.PHONY: build
build: ## Build bin/weightseal (VERSION=v1.2.3 for a release)
	@mkdir -p bin
	$(GOBUILD) -o bin/weightseal ./cmd/weightseal

.PHONY: install
install: build ## Install it into $(PREFIX)/bin, with its manual pages (PREFIX, DESTDIR)
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 0755 bin/weightseal '$(DESTDIR)$(PREFIX)/bin/weightseal'
	install -d '$(DESTDIR)$(PREFIX)/share/man/man1'
	install -m 0644 docs/man/*.1 '$(DESTDIR)$(PREFIX)/share/man/man1'

##@ Release

KEY            ?=
ALLOW_UNSIGNED ?=
PLATFORMS      ?=
DIST           ?= dist
PUSH           ?=
GPG_KEY        ?=
export ALLOW_UNSIGNED

.PHONY: release
release: ## Archives, checksums, SBOM, signature, provenance into dist/ (VERSION=v1.2.3 KEY=cosign.key)
	go run ./tools/release -version '$(VERSION)' -out '$(DIST)' -key '$(KEY)' -platforms '$(PLATFORMS)'

.PHONY: image
image: ## The container image as an OCI layout in dist/image (VERSION, PUSH=REF)
	go run ./tools/release image -version '$(VERSION)' -out '$(DIST)/image' -push '$(PUSH)'

.PHONY: plugin
plugin: ## The Helm plugin of dist/ into a registry, for Helm 4 (VERSION, PUSH=REF, GPG_KEY to sign it)
	go run ./tools/release plugin -version '$(VERSION)' -out '$(DIST)' -push '$(PUSH)' -gpg-key '$(GPG_KEY)'

##@ Check

.PHONY: test
test: test-deps ## Install what the tests need, and run them all (PKG, TESTFLAGS)
	go test -timeout $(TESTTIMEOUT) $(TESTFLAGS) $(PKG)

.PHONY: test-deps
test-deps: ## Only install what the tests need: Debian packages, third-party programs
	@tools/debian $(TEST_PACKAGES)
	@tools/build $(TEST_TOOLS)

# Tests that only drive a program which was built without the detector: there is
# nothing in them that it could see. The last two push hundreds of models one by
# one, where deriving the key's password takes the detector a quarter of an hour;
# the same files go through the scanner's and converter's own tests.
RACE_SKIP := ^(TestDocs|TestCluster|TestHelmHowto|TestRegistryHowto|TestRealHosts|TestRealHostsSignals|TestHelmDownloader|TestHelmInstallsRelease|TestProxy|TestPushOfThreats|TestHostileCheckpoints)$$
RACE_PKG   = $(if $(filter ./...,$(PKG)),$$(go list ./... | grep -v /tools/release$$),$(PKG))

.PHONY: race
race: test-deps ## The tests under the race detector (PKG, TESTFLAGS)
	@tools/debian $(RACE_PACKAGES)
	CGO_ENABLED=1 go test -race -skip '$(RACE_SKIP)' -timeout $(TESTTIMEOUT) $(TESTFLAGS) $(RACE_PKG)

.PHONY: fuzz
fuzz: ## Each fuzz target for FUZZTIME (30s) (PKG)
	@tools/fuzz $(FUZZTIME) $(PKG)

.PHONY: lint
lint: ## gofmt, a tidy go.mod, and golangci-lint as .golangci.yml says
	@tools/build golangci-lint
	@unformatted=$$(gofmt -l .); \
		[ -z "$$unformatted" ] || { echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; }
	go mod tidy -diff
	'$(TOOLS)/golangci-lint' run $(PKG)

.PHONY: vet
vet: ## go vet
	go vet $(PKG)

.PHONY: cross
cross: ## Compile and vet for Windows and macOS, the tests too
	for os in windows darwin; do \
		echo "$$os"; CGO_ENABLED=0 GOOS=$$os go vet $(PKG) || exit 1; \
		CGO_ENABLED=0 GOOS=$$os go build -trimpath -o /dev/null ./cmd/weightseal || exit 1; \
	done

.PHONY: reproducible
reproducible: ## Two builds in different folders give the same bytes
	@tools/reproducible

.PHONY: vuln
vuln: ## Known vulnerabilities in what the binary calls (needs the network)
	go run $(GOVULNCHECK) $(PKG)

##@ Measure

.PHONY: bench
bench: build ## Speed and memory beside cp, oras, cosign and the Python chain (ROUNDS, SIZE_MB)
	@tools/debian $(TEST_PACKAGES)
	@tools/build oras registry cosign2
	@bench/run

.PHONY: compare
compare: ## The scanner's verdicts over the corpus of threats and clean files
	@go test -count=1 ./scan -run '^TestCompare$$' -compare -v

.PHONY: gobench
gobench: ## The Go benchmarks (PKG)
	go test -run '^$$' -bench . -benchmem $(PKG)

##@ Maintain

.PHONY: golden
golden: ## Rewrite the golden files (and the schema) from what the code gives now
	@packages=$$(grep -rlE --include='*_test.go' 'flag\.Bool\("update"' . | xargs -r -n1 dirname | sort -u); \
		[ -n "$$packages" ] || { echo "no golden files yet"; exit 0; }; \
		for p in $$packages; do go test -count=1 $$p -update || exit 1; done

.PHONY: clean
clean: ## Remove what was built in the checkout
	rm -rf bin dist bench/out
