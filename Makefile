# sigild: two commands matter on a fresh machine, `make demo` and `make test`.
# Both install what they need (Debian 12, Ubuntu 24.04; Go and git are there).

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
GO          ?= go
PREFIX      ?= /usr/local
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased)
LDFLAGS     := -X main.version=$(VERSION)
PACKAGES    := ./...
# A number of inputs and not a time: with a time Go 1.26 fails now and then at its
# end with "context deadline exceeded" and no input (golang/go#75804).
FUZZTIME    ?= 20000x
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

export CGO_ENABLED := 1
# runtime/secret erases what library code leaves of PINs and keys; without it
# everything works, and status says that it does not.
export GOEXPERIMENT := runtimesecret

.PHONY: help deps build demo dev test geth race bench scale faults hang soak kills guess lint fuzz system-test deb install clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what tests and demo need, where it is absent
	@testdata/install-deps

build: deps ## build bin/sigild and bin/sigilctl
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

demo: build ## run the main job on a throw-away SoftHSM token, swtpm and KMS endpoint
	$(GO) run ./testdata/demo -sigild bin/sigild -sigilctl bin/sigilctl

dev: build ## leave a throw-away installation running and print its socket
	$(GO) run ./testdata/demo -dev -sigild bin/sigild -sigilctl bin/sigilctl

test: deps ## run the tests on real SoftHSM, swtpm and the real AWS SDK
	$(GO) test -count=1 -timeout 30m $(PACKAGES)

geth: deps ## the tests with a real go-ethereum node, which is built in minutes the first time
	SIGILD_GETH=1 $(GO) test -count=1 -timeout 30m -run TestGeth -v ./cmd/sigild

race: deps ## the same with the race detector
	$(GO) test -count=1 -timeout 40m -race $(PACKAGES)

guess: deps ## a guesser for 10 minutes, and 10 more with reboots; it has the database file and restarts in its hands
	SIGILD_GUESS=20m $(GO) test -count=1 -timeout 30m -run TestP4Guesser -v ./cmd/sigild

kills: deps ## 300 random kills under load, and a kill around each command to the TPM
	SIGILD_KILLS=300 $(GO) test -count=1 -timeout 30m -run 'TestP4(RandomKills|KilledAt)' -v ./cmd/sigild

bench: deps ## signatures through the socket beside direct C_Sign, and other ratios
	$(GO) test -run '^$$' -bench . -benchtime 2s $(PACKAGES)

scale: deps ## 100,000 wallets: look-ups, lists, start, memory
	SIGILD_SCALE=100000 $(GO) test -count=1 -timeout 60m -run TestManyWallets -v ./cmd/sigild

faults: deps ## write docs/faults.md from what the devices' faults do
	$(GO) test -count=1 -timeout 30m -run '^(TestDeviceFaults|TestFaultsThatWaitForAPerson)$$' ./cmd/sigild -write-faults

hang: deps ## a call into the module hangs for 10 minutes, then all of them for one; write docs/faults.md
	$(GO) test -count=1 -timeout 20m -run '^TestLongHang$$' ./cmd/sigild -v -hang 10m -write-faults

soak: deps ## 8 clients and a random device fault every second, for 5 minutes; write docs/faults.md
	$(GO) test -count=1 -timeout 20m -run '^TestFaultsUnderLoad$$' ./cmd/sigild -v -soak 5m -write-faults

lint: ## gofmt, vet, staticcheck, shellcheck where it is installed
	@test -z "$$(gofmt -l . | tee -a /dev/stderr)"
	$(GO) vet $(PACKAGES) ./testdata/demo
	$(GO) run $(STATICCHECK) $(PACKAGES) ./testdata/demo
	$(GO) mod tidy -diff
	$(GO) mod verify
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run testdata/install-deps systemd/deb/build systemd/deb/postinst systemd/deb/prerm systemd/deb/postrm systemd/testdata/boot; fi

fuzz: deps ## every fuzz target for FUZZTIME inputs
	@for package in $$($(GO) list $(PACKAGES)); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "== $$package $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1000x $$package; \
	  done; \
	done

system-test: deps ## as root: install, run, break, upgrade and remove the package under a real systemd
	@testdata/install-deps system
	$(GO) test -count=1 -timeout 20m -tags system -run TestRealSystemd -v ./systemd

deb: deps ## build dist/sigild_VERSION_ARCH.deb
	GO='$(GO)' VERSION='$(VERSION)' systemd/deb/build

install: build ## install the two binaries below PREFIX
	install -D -m 0755 bin/sigild $(DESTDIR)$(PREFIX)/sbin/sigild
	install -D -m 0755 bin/sigilctl $(DESTDIR)$(PREFIX)/bin/sigilctl

clean: ## remove what was built
	rm -rf bin dist
